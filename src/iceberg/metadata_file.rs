//! Metadata as objects: their names, and those that are compressed.

use std::io::Read;

use flate2::read::GzDecoder;

use super::error::unsupported;
use super::metadata::TableMetadata;
use crate::error::{Error, ErrorKind, Result};

/// Nobody's metadata are larger; a bomb may be.
const MAX_METADATA_BYTES: u64 = 1 << 30;

/// The version in the name of a file-system table's metadata: `v3.metadata.json`, and compressed
/// `v3.gz.metadata.json` or, of old, `v3.metadata.json.gz`.
pub(super) fn version_of(name: &str) -> Option<u64> {
    let name = name.strip_prefix('v')?;
    let number = [".metadata.json", ".gz.metadata.json", ".metadata.json.gz"]
        .iter()
        .find_map(|suffix| {
            name.strip_suffix(suffix)
                .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
        })?;
    number.parse().ok()
}

/// Reads metadata from an object of this name.
pub(super) fn decode(name: &str, bytes: &[u8]) -> Result<TableMetadata> {
    if !(name.ends_with(".gz.metadata.json") || name.ends_with(".metadata.json.gz")) {
        return TableMetadata::parse(bytes);
    }
    let mut json = Vec::new();
    let read = GzDecoder::new(bytes)
        .take(MAX_METADATA_BYTES + 1)
        .read_to_end(&mut json);
    read.map_err(|e| {
        let message = format!("the table's metadata cannot be decompressed. object=`{name}`");
        Error::new(ErrorKind::Invalid, message).with_source(e)
    })?;
    if json.len() as u64 > MAX_METADATA_BYTES {
        return Err(unsupported(format!(
            "the table's metadata are larger than {MAX_METADATA_BYTES} bytes. object=`{name}`"
        )));
    }
    TableMetadata::parse(&json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_versions_have_a_version() {
        for (name, version) in [
            ("v1.metadata.json", Some(1)),
            ("v12.gz.metadata.json", Some(12)),
            ("v12.metadata.json.gz", Some(12)),
            ("v.metadata.json", None),
            ("v-1.metadata.json", None),
            ("v+1.metadata.json", None),
            ("v1.metadata.json.tmp", None),
            ("00001-6a92d155-a59b-42ee-bd4b-b4ec7fd1f875.metadata.json", None),
            ("v99999999999999999999.metadata.json", None),
        ] {
            assert_eq!(version_of(name), version, "{name}");
        }
    }
}
