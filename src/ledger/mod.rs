//! The plan register of a lane: the durable memory of what was decided, and what it says together with
//! the table.
//!
//! ```text
//! {control}/lanes/{lane}/lane.json                          the manifest, put-if-absent
//! {control}/lanes/{lane}/{laneId}/plans/{seq}.json          one immutable plan per seq, put-if-absent; in place
//!                                                           of the first, the lane that has followed this one
//!                                /decided/{seq}.json        what the table said, put-if-absent
//!                                /floor/{seq}.json          up to where plans and decisions are pruned
//!                                /window-sizes/{n}.json     later window sizes
//!                                /attempts/{seq}-{attempt}.json   files that an attempt has uploaded
//!                                /scratch/{seq}-{attempt}/  runs of a merge in several passes
//!                                /settled/{window start}.json     of an adopted lane: sources judged before it
//! ```

mod check;
pub(crate) mod ending;
pub(crate) mod manifest;
pub(crate) mod objects;
mod register;

pub(crate) use check::{Standing, check};
pub(crate) use register::{Floor, Register, SettledSource, Verdict};
