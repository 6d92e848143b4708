//! Writes the seeds of the fuzz targets that are made by the library itself: `cargo run --example seeds`.

use std::fs;
use std::path::Path;

use firnline::{Options, TableFormat};
use firnline_fuzz::files;
use firnline_fuzz::world::Snapshot;

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
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (number, (target, bytes)) in seeds.into_iter().enumerate() {
        let directory = corpus.join(target);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(format!("made-{number:02}")), bytes)?;
    }
    Ok(())
}
