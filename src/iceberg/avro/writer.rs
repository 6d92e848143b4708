//! Writing an object container file.

use std::sync::Arc;

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::codec::compress;
use super::datum::{encode, encode_length, encode_sized};
use super::error::AvroError;
use super::schema::AvroType;
use super::value::{Record, Value};

pub(super) const MAGIC: &[u8; 4] = b"Obj\x01";

/// A block is closed when it has as many bytes, before compression; Java's choice.
const BLOCK: usize = 64_000;

/// A file under construction. Its blocks are compressed as they fill.
#[derive(Debug)]
pub(in crate::iceberg) struct AvroWriter {
    schema: Arc<AvroType>,
    sync: [u8; 16],
    file: Vec<u8>,
    block: Vec<u8>,
    records: usize,
}

impl AvroWriter {
    /// Starts a file with `schema` and `metadata` in its header.
    ///
    /// The marker between the blocks is a hash of the header: it has to be one that the data does not hold by
    /// chance, and the same input shall give the same bytes.
    pub(in crate::iceberg) fn new(schema: &Json, metadata: &[(&str, String)]) -> Result<Self, AvroError> {
        let mut file = MAGIC.to_vec();
        encode_length(metadata.len() + 2, &mut file);
        let fixed = [
            ("avro.schema", schema.to_string()),
            ("avro.codec", "deflate".to_owned()),
        ];
        for (key, value) in fixed.iter().chain(metadata) {
            encode_sized(key.as_bytes(), &mut file);
            encode_sized(value.as_bytes(), &mut file);
        }
        file.push(0);
        let mut sync = [0; 16];
        sync.iter_mut()
            .zip(Sha256::digest(&file))
            .for_each(|(to, from)| *to = from);
        file.extend(sync);
        Ok(Self {
            schema: AvroType::parse(schema)?,
            sync,
            file,
            block: Vec::new(),
            records: 0,
        })
    }

    /// Adds a record. After an error the file is of no use.
    pub(in crate::iceberg) fn push(&mut self, record: Record) -> Result<(), AvroError> {
        encode(&self.schema, &Value::Record(record), &mut self.block)?;
        self.records += 1;
        if self.block.len() >= BLOCK {
            self.end_block();
        }
        Ok(())
    }

    /// What [`finish`](Self::finish) would give now, or slightly more: what waits is not yet compressed.
    pub(in crate::iceberg) fn len(&self) -> usize {
        self.file.len() + self.block.len()
    }

    /// The bytes of the file.
    pub(in crate::iceberg) fn finish(mut self) -> Vec<u8> {
        self.end_block();
        self.file
    }

    fn end_block(&mut self) {
        if self.records > 0 {
            encode_length(self.records, &mut self.file);
            encode_sized(&compress(&self.block), &mut self.file);
            self.file.extend(self.sync);
            self.block.clear();
            self.records = 0;
        }
    }
}
