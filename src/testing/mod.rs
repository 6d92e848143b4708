//! What a host tests its own parts with: conformance suites, fault-injecting wrappers, virtual time.
//!
//! Feature `testing`. Nothing here is for production; the suites panic where a contract is broken.

mod clock;
mod clocked_store;
pub mod conformance;
mod fault;
mod fault_state;
mod fault_store;
mod profile;
mod randomness;
mod rewind_state;
mod simulation;
mod yielding;

pub use clock::VirtualClock;
pub use clocked_store::ClockedStore;
pub use fault::{Fault, Faults, Operation, OperationKind};
pub use fault_state::FaultStateStore;
pub use fault_store::FaultStore;
pub use profile::{Profile, ProfileStore};
pub use randomness::SeededRandomness;
pub use rewind_state::RewindStateStore;
pub use simulation::{
    Call, Cell, Ending, ForeignChange, ForeignFile, Promise, Published, PublishedEntry, SimulatedTables, Simulation,
    SimulationReport, Troubles, Violation,
};
pub use yielding::{YieldingStateStore, YieldingStore};
