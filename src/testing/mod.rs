//! What a host tests its own parts with: conformance suites, fault-injecting wrappers, virtual time.
//!
//! Feature `testing`. Nothing here is for production; the suites panic where a contract is broken.

mod clock;
pub mod conformance;
mod fault;
mod fault_state;
mod fault_store;
mod profile;
mod randomness;

pub use clock::VirtualClock;
pub use fault::{Fault, Faults, Operation, OperationKind};
pub use fault_state::FaultStateStore;
pub use fault_store::FaultStore;
pub use profile::{Profile, ProfileStore};
pub use randomness::SeededRandomness;
