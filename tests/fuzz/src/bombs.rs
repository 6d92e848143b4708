//! Files that claim or unfold to far more than they are.
