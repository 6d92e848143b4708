//! Writes the seeds of the fuzz targets that are made by the library itself: `cargo run --example seeds`.

use std::fs;
use std::path::Path;

use firnline::{Options, TableFormat};
use firnline_fuzz::files;
use firnline_fuzz::world::Snapshot;

const KEYS: [&str; 4] = [
    "data/users/1700000000000-w1-7.parquet",
    "data/eu%2Fusers/1700000000-writer_2-0.parquet",
    "data/users/-1-w-18446744073709551616.parquet",
    "other/users/readme.txt",
];

const NOTIFICATIONS: [&str; 3] = [
    r#"{"account":"a","action":"PutObject","bucket":"b","object":{"key":"data/users/1-w-0.parquet","size":65536,"eTag":"c846ff7a18f28c2e262116d6e8719ef0"},"eventTime":"2024-05-24T19:36:44.379Z"}"#,
    r#"[{"action":"DeleteObject","object":{"key":"k"}},{"action":"CopyObject","copySource":{"bucket":"b","object":"o"},"object":{"key":"k","size":-1}}]"#,
    "{",
];

fn main() -> std::io::Result<()> {
    let mut seeds: Vec<(&str, Vec<u8>)> = Vec::new();
    for format in [TableFormat::Delta, TableFormat::Iceberg] {
        seeds.extend(Snapshot::take(&Options::default().with_target_format(format)).seeds());
    }
    for (place, file) in (0_u8..).zip(files::kinds()) {
        // No change of the kind, and the footer by itself.
        seeds.push(("merge", vec![place]));
        let trailer = file.len() - 8;
        let length = u32::from_le_bytes([file[trailer], file[trailer + 1], file[trailer + 2], file[trailer + 3]]);
        let start = trailer - usize::try_from(length).unwrap_or(0);
        if place == 0 {
            seeds.push(("footer", file[start..trailer].to_vec()));
        }
    }
    let texts = KEYS.map(|key| ("keys", key)).into_iter();
    let texts = texts.chain(NOTIFICATIONS.map(|body| ("events", body)));
    seeds.extend(texts.map(|(target, text)| (target, text.as_bytes().to_vec())));
    for name in ["status.json", "status.guide.json"] {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
        seeds.push(("status", fs::read(data.join(name))?));
    }
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (number, (target, bytes)) in seeds.into_iter().enumerate() {
        let directory = corpus.join(target);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(format!("made-{number:02}")), bytes)?;
    }
    Ok(())
}
