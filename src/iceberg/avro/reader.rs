//! Reading an object container file, block by block.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::codec::Codec;
use super::datum::{Decoder, damaged};
use super::error::AvroError;
use super::schema::AvroType;
use super::value::{Record, Value};

/// The records of a file, in order. One block is decompressed at a time.
///
/// After an error there is no further record.
#[derive(Debug)]
pub(in crate::iceberg) struct AvroReader {
    schema: Arc<AvroType>,
    codec: Codec,
    sync: [u8; 16],
    /// The blocks that have not been looked at.
    rest: Bytes,
    block: Bytes,
    records_left: u64,
}

impl AvroReader {
    /// Reads the header.
    pub(in crate::iceberg) fn new(file: &Bytes) -> Result<Self, AvroError> {
        let mut decoder = Decoder::new(file);
        if decoder.array()? != *super::writer::MAGIC {
            return Err(damaged("it does not start as one"));
        }
        let mut metadata = BTreeMap::new();
        decoder.blocks(|decoder| {
            let key = decoder.text()?;
            metadata.insert(key, decoder.sized()?.to_vec());
            Ok(())
        })?;
        let sync = decoder.array()?;
        let rest = file.slice(file.len() - decoder.rest().len()..);
        let schema = metadata.get("avro.schema").ok_or(damaged("it has no schema"))?;
        let schema = serde_json::from_slice(schema).map_err(|source| AvroError::SchemaJson { source })?;
        let schema = AvroType::parse(&schema)?;
        if !matches!(*schema, AvroType::Record(_)) {
            return Err(AvroError::Schema {
                what: "it is not of a record",
            });
        }
        let codec = Codec::parse(metadata.get("avro.codec").map(Vec::as_slice))?;
        Ok(Self {
            schema,
            codec,
            sync,
            rest,
            block: Bytes::new(),
            records_left: 0,
        })
    }

    fn read(&mut self) -> Result<Option<Record>, AvroError> {
        while self.records_left == 0 {
            if !self.block.is_empty() {
                return Err(damaged("a block is longer than its records"));
            }
            if self.rest.is_empty() {
                return Ok(None);
            }
            self.read_block()?;
        }
        let mut decoder = Decoder::new(&self.block);
        let value = decoder.value(&self.schema)?;
        let used = self.block.len() - decoder.rest().len();
        if used == 0 {
            return Err(damaged("a record has no bytes"));
        }
        self.block = self.block.slice(used..);
        self.records_left -= 1;
        match value {
            Value::Record(record) => Ok(Some(record)),
            _ => Err(damaged("it holds something else than records")),
        }
    }

    fn read_block(&mut self) -> Result<(), AvroError> {
        let mut decoder = Decoder::new(&self.rest);
        let records = u64::try_from(decoder.long()?).map_err(|_| damaged("a count is out of range"))?;
        let block = decoder.sized()?;
        let block = self.rest.slice_ref(block);
        if decoder.array()? != self.sync {
            return Err(damaged("a block does not end in the file's marker"));
        }
        let rest = self.rest.slice(self.rest.len() - decoder.rest().len()..);
        self.rest = rest;
        self.block = self.codec.decompress(block)?;
        self.records_left = records;
        Ok(())
    }
}

impl Iterator for AvroReader {
    type Item = Result<Record, AvroError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.read();
        if record.is_err() {
            self.rest = Bytes::new();
            self.block = Bytes::new();
            self.records_left = 0;
        }
        record.transpose()
    }
}
