//! The tracker against a reference that keeps a plain list of files and asks each rule minute by minute.
