//! What commands have in common.

pub(crate) mod arguments;
pub(crate) mod ending;
