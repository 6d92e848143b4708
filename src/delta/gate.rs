//! Whether a table may be appended to: all that is not known is refused, by name. Pure.

use super::action::Protocol;
use super::error::unsupported;
use super::mapping;
use super::options::{DeltaOptions, parse_interval_ms};
use super::partitioner::ColumnPartitioner;
use super::row_ids;
use super::schema::constraints;
use super::snapshot::Snapshot;
use crate::error::Result;

/// Features a reader must know (Delta protocol, "Valid Feature Names in Table Features").
const READER_FEATURES: [&str; 7] = [
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "typeWidening",
    "typeWidening-preview",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

/// Features that only a writer must know.
const WRITER_FEATURES: [&str; 12] = [
    "allowColumnDefaults", // these five only where no column or property makes use of them
    "checkConstraints",
    "generatedColumns",
    "identityColumns",
    "invariants",
    "appendOnly",
    "changeDataFeed",       // a pure append needs no change files
    "checkpointProtection", // nothing of a log is ever deleted here, and no checkpoint is written of an older version
    "clustering",
    "domainMetadata",
    "inCommitTimestamp",
    "rowTracking",
];

/// Refuses what cannot be appended to.
///
/// # Errors
///
/// `Unsupported` naming every feature, property or column that is in the way.
pub(super) fn check_append(table: &Snapshot, options: &DeltaOptions) -> Result<()> {
    let mut obstacles = unknown_features(table.protocol());
    let metadata = table.metadata();
    if metadata.format.provider != "parquet" {
        obstacles.push(format!("format {}", metadata.format.provider));
    }
    if let Err(obstacle) = ColumnPartitioner::of(metadata, table.schema()) {
        obstacles.push(obstacle.to_string());
    }
    for (key, value) in &metadata.configuration {
        let refused = match key.as_str() {
            mapping::MODE => !mapping::is_understood(table.protocol(), value),
            "delta.setTransactionRetentionDuration" => {
                parse_interval_ms(value).is_none_or(|millis| millis < options.horizon_ms)
            }
            // Not only as features of the protocol: older tables have the properties alone.
            "delta.enableIcebergCompatV1" | "delta.enableIcebergCompatV2" | "delta.enableIcebergCompatV3" => {
                value.trim().eq_ignore_ascii_case("true")
            }
            "delta.universalFormat.enabledFormats" => !value.trim().is_empty(),
            _ => key.starts_with("delta.constraints."),
        };
        if refused {
            obstacles.push(format!("property {key} = {value}"));
        }
    }
    if mapping::is_mapped(metadata)
        && let Some(column) = mapping::unmapped(table.schema().fields(), "")
    {
        obstacles.push(format!("column without id or physical name: {column}"));
    }
    obstacles.extend(constraints(&metadata.schema_string));
    if table.has_in_commit_timestamps() && table.in_commit_timestamp().is_none() {
        obstacles.push("in-commit timestamp missing from the newest commit".to_owned());
    }
    obstacles.extend(row_ids::obstacle(table));
    if obstacles.is_empty() {
        return Ok(());
    }
    Err(unsupported(format!(
        "the table asks for what is not supported: {}. table=`{}` version=`{}`",
        obstacles.join("; "),
        metadata.id,
        table.version()
    )))
}

fn unknown_features(protocol: &Protocol) -> Vec<String> {
    let mut obstacles = Vec::new();
    let (reader, writer) = (protocol.min_reader_version, protocol.min_writer_version);
    if !(1..=3).contains(&reader) {
        obstacles.push(format!("reader version {reader}"));
    }
    if !(1..=7).contains(&writer) {
        obstacles.push(format!("writer version {writer}"));
    }
    let mut check = |kind: &str, features: Option<&Vec<String>>, needed: bool, known: &[&[&str]]| {
        if needed && features.is_none() {
            obstacles.push(format!("no list of {kind} features"));
        }
        for feature in features.into_iter().flatten() {
            if !known.iter().any(|names| names.contains(&feature.as_str())) {
                obstacles.push(format!("{kind} feature {feature}"));
            }
        }
    };
    let reader_features = protocol.reader_features.as_ref();
    let writer_features = protocol.writer_features.as_ref();
    check("reader", reader_features, reader == 3, &[&READER_FEATURES]);
    check(
        "writer",
        writer_features,
        writer == 7,
        &[&READER_FEATURES, &WRITER_FEATURES],
    );
    obstacles
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::delta::action::{Action, Metadata};
    use crate::error::ErrorKind;

    const RAW: &str = r#"{"name":"raw","type":"binary","nullable":true,"metadata":{}}"#;
    const PLAIN: &str = r#"{"type":"struct","fields":[{"name":"a","type":"long","nullable":true,"metadata":{}}]}"#;

    fn table(reader: i32, writer: i32, features: &[&str], properties: &[(&str, &str)], schema: &str) -> Snapshot {
        let features: Vec<_> = features.iter().map(|f| (*f).to_owned()).collect();
        let in_reader: Vec<_> = features
            .iter()
            .filter(|f| READER_FEATURES.contains(&f.as_str()))
            .cloned()
            .collect();
        let protocol = Protocol {
            min_reader_version: reader,
            min_writer_version: writer,
            reader_features: (reader == 3).then_some(in_reader),
            writer_features: (writer == 7).then_some(features),
        };
        let metadata = Metadata {
            id: "t".to_owned(),
            schema_string: schema.to_owned(),
            configuration: properties
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>(),
            ..Metadata::default()
        };
        let info = serde_json::from_str(r#"{"inCommitTimestamp":1}"#).unwrap();
        Snapshot::from_actions(
            0,
            &[
                Action::CommitInfo(info),
                Action::Protocol(protocol),
                Action::MetaData(metadata),
            ],
        )
        .unwrap()
    }

    fn refusal(table: &Snapshot) -> String {
        let error = check_append(table, &DeltaOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        error.to_string()
    }

    #[test]
    fn legacy_protocols_are_taken_where_nothing_makes_use_of_them() {
        for writer in 1..=6 {
            check_append(&table(2, writer, &[], &[], PLAIN), &DeltaOptions::default()).unwrap();
        }
        let all: Vec<_> = READER_FEATURES.iter().chain(&WRITER_FEATURES).copied().collect();
        let properties = [
            ("delta.columnMapping.mode", "none"),
            ("delta.enableInCommitTimestamps", "true"),
        ];
        check_append(&table(3, 7, &all, &properties, PLAIN), &DeltaOptions::default()).unwrap();
    }

    #[test]
    fn unknown_versions_and_features_are_refused_by_name() {
        assert!(refusal(&table(4, 8, &[], &[], PLAIN)).contains("reader version 4; writer version 8"));
        let features = ["catalogManaged", "icebergCompatV2", "identityColumns2"];
        assert_eq!(
            refusal(&table(3, 7, &features, &[], PLAIN)),
            "the table asks for what is not supported: writer feature catalogManaged; writer feature \
             icebergCompatV2; writer feature identityColumns2. table=`t` version=`0`"
        );
    }

    #[test]
    fn tables_for_iceberg_readers_are_refused_by_their_properties_too() {
        for (key, value) in [
            ("delta.enableIcebergCompatV1", "true"),
            ("delta.enableIcebergCompatV2", "TRUE"),
            ("delta.universalFormat.enabledFormats", "hudi"),
        ] {
            let refused = refusal(&table(1, 2, &[], &[(key, value)], PLAIN));
            assert!(refused.contains(&format!("property {key} = {value}")), "{refused}");
        }
        let off = [
            ("delta.enableIcebergCompatV1", "false"),
            ("delta.universalFormat.enabledFormats", ""),
        ];
        check_append(&table(1, 2, &[], &off, PLAIN), &DeltaOptions::default()).unwrap();
    }

    #[test]
    fn changes_of_types_that_nobody_can_follow_are_refused() {
        let of = |from: &str| {
            let change = format!(r#"[{{"fromType":"{from}","toType":"long","tableVersion":1}}]"#);
            let schema = PLAIN.replace(
                r#""metadata":{}"#,
                &format!(r#""metadata":{{"delta.typeChanges":{change}}}"#),
            );
            table(3, 7, &["typeWidening"], &[], &schema)
        };
        check_append(&of("integer"), &DeltaOptions::default()).unwrap();
        let refused = refusal(&of("timestamp"));
        assert!(
            refused.contains("type change {") && refused.contains("} on a"),
            "{refused}"
        );
    }

    #[test]
    fn rows_that_cannot_get_ids_are_refused_before_anything_is_uploaded() {
        let of = |configuration: &str| {
            let mut table = table(1, 7, &["rowTracking", "domainMetadata"], &[], PLAIN);
            let domain =
                serde_json::json!({"domain": "delta.rowTracking", "configuration": configuration, "removed": false});
            let action = Action::DomainMetadata(serde_json::from_value(domain).unwrap());
            table.apply(&[action]).unwrap();
            table
        };
        check_append(&of(r#"{"rowIdHighWaterMark":7}"#), &DeltaOptions::default()).unwrap();
        for text in ["{}", "5", "x", r#"{"rowIdHighWaterMark":9223372036854775800}"#] {
            let refused = refusal(&of(text));
            assert!(
                refused.contains(&format!("domain delta.rowTracking = {text}")),
                "{refused}"
            );
        }
    }

    #[test]
    fn constraints_and_mapped_columns_are_refused_by_name() {
        let message = refusal(&table(
            1,
            3,
            &[],
            &[
                ("delta.constraints.positive", "a > 0"),
                ("delta.columnMapping.mode", "name"),
            ],
            PLAIN,
        ));
        assert!(
            message.contains("property delta.constraints.positive = a > 0"),
            "{message}"
        );
        assert!(
            message.contains("property delta.columnMapping.mode = name"),
            "{message}"
        );
        let generated = PLAIN.replace("\"metadata\":{}", r#""metadata":{"delta.generationExpression":"b"}"#);
        assert!(refusal(&table(1, 4, &[], &[], &generated)).contains("delta.generationExpression on a"));
    }

    #[test]
    fn mapped_columns_are_taken_where_the_protocol_knows_of_them() {
        let schema = PLAIN.replace(
            "{}",
            r#"{"delta.columnMapping.id":1,"delta.columnMapping.physicalName":"col-1"}"#,
        );
        let mode = |mode| [(mapping::MODE, mode)];
        for (reader, writer, features) in [(2, 5, &[][..]), (2, 7, &["columnMapping"]), (3, 7, &["columnMapping"])] {
            for known in ["name", "ID"] {
                let table = table(reader, writer, features, &mode(known), &schema);
                check_append(&table, &DeltaOptions::default()).unwrap();
            }
        }
        let unknown = [
            table(1, 5, &[], &mode("name"), &schema),
            table(2, 4, &[], &mode("name"), &schema),
            table(3, 7, &[], &mode("name"), &schema),
            table(2, 5, &[], &mode("place"), &schema),
        ];
        for table in unknown {
            assert!(refusal(&table).contains("property delta.columnMapping.mode = "));
        }
    }

    #[test]
    fn a_transaction_retention_below_the_horizon_is_refused() {
        const KEY: &str = "delta.setTransactionRetentionDuration";
        check_append(
            &table(1, 2, &[], &[(KEY, "interval 35 days")], PLAIN),
            &DeltaOptions::default(),
        )
        .unwrap();
        for short in ["interval 34 days", "interval 2 months", "soon"] {
            let message = refusal(&table(1, 2, &[], &[(KEY, short)], PLAIN));
            assert!(message.contains(&format!("property {KEY} = {short}")), "{message}");
        }
    }

    #[test]
    fn tables_are_partitioned_by_columns_that_they_have_and_whose_values_have_text() {
        let partitioned = |columns: &[&str]| {
            let mut table = table(1, 2, &[], &[], &PLAIN.replace("]}", &format!(",{RAW}]}}")));
            let mut metadata = table.metadata().clone();
            metadata.partition_columns = columns.iter().map(|name| (*name).to_owned()).collect();
            table.apply(&[Action::MetaData(metadata)]).unwrap();
            table
        };
        check_append(&partitioned(&["a"]), &DeltaOptions::default()).unwrap();
        assert!(refusal(&partitioned(&["a", "raw"])).contains("partition column of type Binary. column=`raw`"));
        assert!(refusal(&partitioned(&["b"])).contains("partition column that the table has not. column=`b`"));
    }
}
