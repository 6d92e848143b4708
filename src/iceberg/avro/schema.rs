//! The schema in a file's header, as far as decoding and encoding need it.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::error::AvroError;

/// A type of a writer's schema. Logical types say nothing about how a value lies in the file, so they are dropped.
#[derive(Debug)]
pub(super) enum AvroType {
    Array(Arc<Self>),
    Boolean,
    Bytes,
    Double,
    Enum,
    Fixed(usize),
    Float,
    Int,
    Long,
    /// Values by text keys.
    Map(Arc<Self>),
    Null,
    Record(Vec<AvroField>),
    String,
    Union(Vec<Arc<Self>>),
}

/// A field of a record.
#[derive(Debug)]
pub(super) struct AvroField {
    /// Iceberg's `field-id`; a field without one is nobody's.
    pub(super) id: Option<i32>,
    pub(super) field_type: Arc<AvroType>,
}

impl AvroType {
    /// Reads a schema. A type that contains itself is refused: no file of Iceberg's has one, and it has no depth.
    pub(super) fn parse(json: &Json) -> Result<Arc<Self>, AvroError> {
        Parser::default().parse(json).map(|node| node.avro_type)
    }
}

/// Deeper schemas are refused, so that neither decoding nor dropping one can exhaust the stack.
const MAX_DEPTH: usize = 32;

#[derive(Clone)]
struct Node {
    avro_type: Arc<AvroType>,
    depth: usize,
}

impl Node {
    fn leaf(avro_type: AvroType) -> Self {
        Self {
            avro_type: Arc::new(avro_type),
            depth: 1,
        }
    }

    fn parent(avro_type: AvroType, depth_of_parts: usize) -> Result<Self, AvroError> {
        if depth_of_parts >= MAX_DEPTH {
            return Err(damaged("it is too deep"));
        }
        Ok(Self {
            avro_type: Arc::new(avro_type),
            depth: depth_of_parts + 1,
        })
    }
}

#[derive(Default)]
struct Parser {
    named: HashMap<String, Node>,
}

impl Parser {
    fn parse(&mut self, json: &Json) -> Result<Node, AvroError> {
        match json {
            Json::String(name) => self.by_name(name),
            Json::Array(variants) => {
                let variants: Vec<Node> = variants.iter().map(|v| self.parse(v)).collect::<Result<_, _>>()?;
                let depth = variants.iter().map(|v| v.depth).max().unwrap_or_default();
                let variants = variants.into_iter().map(|v| v.avro_type).collect();
                Node::parent(AvroType::Union(variants), depth)
            }
            Json::Object(_) => self.parse_object(json),
            _ => Err(damaged("a type is neither text, list nor object")),
        }
    }

    fn by_name(&self, name: &str) -> Result<Node, AvroError> {
        let primitive = match name {
            "null" => AvroType::Null,
            "boolean" => AvroType::Boolean,
            "int" => AvroType::Int,
            "long" => AvroType::Long,
            "float" => AvroType::Float,
            "double" => AvroType::Double,
            "bytes" => AvroType::Bytes,
            "string" => AvroType::String,
            _ => {
                return self
                    .named
                    .get(last_name(name))
                    .cloned()
                    .ok_or(damaged("a type is used before it is defined"));
            }
        };
        Ok(Node::leaf(primitive))
    }

    fn parse_object(&mut self, json: &Json) -> Result<Node, AvroError> {
        match json.get("type") {
            Some(Json::String(kind)) => match kind.as_str() {
                "array" => {
                    let items = self.parse(json.get("items").ok_or(damaged("an array has no items"))?)?;
                    Node::parent(AvroType::Array(items.avro_type), items.depth)
                }
                "map" => {
                    let values = self.parse(json.get("values").ok_or(damaged("a map has no values"))?)?;
                    Node::parent(AvroType::Map(values.avro_type), values.depth)
                }
                "record" | "error" => {
                    let record = self.parse_record(json)?;
                    Ok(self.define(json, record))
                }
                "fixed" => {
                    let size = json.get("size").and_then(Json::as_u64);
                    let size = size.and_then(|size| usize::try_from(size).ok());
                    let fixed = Node::leaf(AvroType::Fixed(size.ok_or(damaged("a fixed has no size"))?));
                    Ok(self.define(json, fixed))
                }
                "enum" => Ok(self.define(json, Node::leaf(AvroType::Enum))),
                name => self.by_name(name),
            },
            Some(inner) => self.parse(inner),
            None => Err(damaged("an object has no type")),
        }
    }

    fn parse_record(&mut self, json: &Json) -> Result<Node, AvroError> {
        let fields = json.get("fields").and_then(Json::as_array);
        let mut depth = 0;
        let fields = fields
            .ok_or(damaged("a record has no fields"))?
            .iter()
            .map(|field| {
                let node = self.parse(field.get("type").ok_or(damaged("a field has no type"))?)?;
                depth = depth.max(node.depth);
                let id = field.get("field-id").and_then(Json::as_i64);
                Ok(AvroField {
                    id: id.and_then(|id| i32::try_from(id).ok()),
                    field_type: node.avro_type,
                })
            })
            .collect::<Result<_, AvroError>>()?;
        Node::parent(AvroType::Record(fields), depth)
    }

    fn define(&mut self, json: &Json, node: Node) -> Node {
        if let Some(name) = json.get("name").and_then(Json::as_str) {
            self.named.insert(last_name(name).to_owned(), node.clone());
        }
        node
    }
}

/// Names are looked up without their namespaces: a short name may stand for a full one, and Iceberg has no two
/// types that differ in the namespace alone.
fn last_name(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

const fn damaged(what: &'static str) -> AvroError {
    AvroError::Schema { what }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(json: &Json) -> String {
        AvroType::parse(json).unwrap_err().to_string()
    }

    #[test]
    fn types_that_contain_themselves_are_refused() {
        let json = json!({"type": "record", "name": "r", "fields": [{"name": "a", "type": "r"}]});
        assert_eq!(
            refusal(&json),
            "avro schema cannot be understood: a type is used before it is defined"
        );
    }

    #[test]
    fn depth_through_names_is_limited() {
        let mut fields = vec![json!({"name": "f", "type": {"type": "fixed", "name": "t0", "size": 0}})];
        for i in 1..=MAX_DEPTH {
            let part = json!({"name": "f", "type": format!("t{}", i - 1)});
            fields.push(
                json!({"name": "f", "type": {"type": "record", "name": format!("t{i}"), "fields": [part.clone(), part]}}),
            );
        }
        let json = json!({"type": "record", "name": "root", "fields": fields});
        assert_eq!(refusal(&json), "avro schema cannot be understood: it is too deep");
    }

    #[test]
    fn types_are_found_with_and_without_a_namespace() {
        let json = json!({"type": "record", "name": "org.r", "fields": [
            {"name": "a", "type": {"type": "fixed", "name": "f", "namespace": "org", "size": 2}, "field-id": 7},
            {"name": "b", "type": "org.f"},
            {"name": "c", "type": {"type": {"type": "int", "logicalType": "date"}}},
        ]});
        let parsed = AvroType::parse(&json).unwrap();
        let AvroType::Record(fields) = parsed.as_ref() else {
            panic!("not a record")
        };
        assert_eq!(fields.iter().map(|f| f.id).collect::<Vec<_>>(), [Some(7), None, None]);
        assert!(matches!(fields[1].field_type.as_ref(), AvroType::Fixed(2)));
        assert!(matches!(fields[2].field_type.as_ref(), AvroType::Int));
    }
}
