//! Avro object container files as Iceberg uses them (Avro specification 1.11; Iceberg specification, "Avro").
//!
//! Records are read by the field ids that the writer's schema carries, never by name or position, and written
//! with a schema given as JSON, which goes into the header as it is. Whatever the bytes say, reading them ends
//! in records or in an error: nothing that a file declares is allocated before it is known to be there.
//!
//! The framing and the values are coded here because `apache-avro` 0.21 cannot: it reads a `fixed` uuid as a
//! string, turns cut values into nulls, reserves what an array declares, and loses attributes of primitives
//! when it writes a schema. It lends its codecs ([`codec`]).

mod codec;
mod datum;
mod error;
mod reader;
mod schema;
mod value;
mod writer;

pub(super) use error::AvroError;
pub(super) use reader::AvroReader;
pub(super) use value::{FromValue, Record, Value};
pub(super) use writer::AvroWriter;
