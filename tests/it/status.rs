//! The status document: the guide's names, as a subset of ours.
