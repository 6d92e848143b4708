//! What a hostile file takes, counted by the allocator.

use firnline::Codec;
use firnline_fuzz::bombs::bombs;
use firnline_fuzz::counting::peak_of;
use firnline_fuzz::files;
use firnline_fuzz::targets::{BUDGET, EXTRA_BYTES, merged};

/// Outputs are in memory too, and should be small there.
const CODEC: Codec = Codec::Zstd(1);

/// What is as large as it says, row for row, and is read in parts that fit.
const ROWS: [(&str, u64); 5] = [
    ("a wide value of a dictionary, 20,000 times", 20_000),
    ("a prefix of 300,000 bytes", 2),
    ("prefixes that grow", 100_000),
    ("blocks of 2^62 lengths", 10),
    ("blocks of 2^62 numbers", 10),
];

#[test]
fn a_bomb_is_refused_or_read_in_parts_and_takes_no_memory() {
    for (name, file) in bombs() {
        let size = file.len();
        let (outcome, peak) = peak_of(|| merged(file, CODEC));
        println!("{:>6} KiB of {:>4}: {name}: {outcome:?}", peak >> 10, size >> 10);
        let rows = ROWS.iter().find(|(other, _)| *other == name).map(|(_, rows)| *rows);
        let budget = rows.map_or(0, |_| BUDGET);
        assert!(peak < budget + EXTRA_BYTES, "{name}: {peak} bytes");
        assert_eq!(outcome.and_then(Result::ok), rows, "{name}");
    }
}

#[test]
fn good_files_are_merged() {
    for file in files::kinds() {
        let (outcome, peak) = peak_of(|| merged(file, CODEC));
        assert!(matches!(outcome, Some(Ok(24))), "{outcome:?}");
        assert!(peak < EXTRA_BYTES, "{peak} bytes");
    }
}

#[test]
fn no_allocation_goes_uncounted() {
    let (_, peak) = peak_of(|| vec![1_u8; 1 << 20]);
    assert!(peak >= 1 << 20, "{peak}");
    let (_, again) = peak_of(|| ());
    assert_eq!(again, 0);
}
