//! Schemas of source files: taken from the Parquet schema, unified, and cast to.

#[cfg(any(feature = "delta", feature = "iceberg"))]
pub(crate) mod canonical;
mod cast;
mod evolution;
mod field_ids;
mod int96;
mod join;
mod names;
#[cfg(any(feature = "delta", feature = "iceberg"))]
mod new_ids;
mod normalize;
mod shared;
mod step;
mod stored_names;
mod typed;
mod unify;

pub(crate) use cast::Caster;
pub use evolution::{Evolution, TableColumns};
pub(crate) use field_ids::{NamesById, named_by_ids};
pub(crate) use int96::{check_exact, int96_leaves};
#[cfg(any(feature = "delta", feature = "iceberg"))]
pub(crate) use join::is_wider;
#[cfg(any(feature = "delta", feature = "iceberg"))]
pub(crate) use new_ids::{NewIds, field_id};
pub(crate) use normalize::{arrow_schema, strip_array};
pub use normalize::{from_parquet, strip_metadata};
pub(crate) use shared::SharedSchemas;
pub use stored_names::STORED_NAME_KEY;
pub(crate) use stored_names::with_stored_names;
#[cfg(feature = "delta")]
pub(crate) use stored_names::{has_stored_names, stored_name};
pub(crate) use typed::is_typed;
pub(crate) use unify::drift;
pub use unify::{Unified, unify};
