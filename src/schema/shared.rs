//! Schemas of many files, most of which have the same one.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

/// Keeps equal schemas once: one of many columns takes as much memory as a small file.
#[derive(Debug, Default)]
pub(crate) struct SharedSchemas(Vec<SchemaRef>);

impl SharedSchemas {
    /// The first schema that was equal to this one.
    pub(crate) fn share(&mut self, schema: SchemaRef) -> SchemaRef {
        if let Some(known) = self.0.iter().rev().find(|known| ***known == *schema) {
            return Arc::clone(known);
        }
        self.0.push(Arc::clone(&schema));
        schema
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn equal_schemas_become_one() {
        let schema = |name: &str| Arc::new(Schema::new(vec![Field::new(name, DataType::Int64, true)]));
        let mut shared = SharedSchemas::default();
        let first = shared.share(schema("a"));
        shared.share(schema("b"));
        assert!(Arc::ptr_eq(&shared.share(schema("a")), &first));
        assert_eq!(shared.0.len(), 2);
    }
}
