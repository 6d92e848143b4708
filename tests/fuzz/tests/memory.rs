//! What a hostile file takes, counted by the allocator.

use firnline_fuzz::bombs::bombs;
use firnline_fuzz::counting::peak_of;
use firnline_fuzz::files;
use firnline_fuzz::targets::{BUDGET, EXTRA_BYTES, merged};

#[test]
fn a_bomb_is_refused_and_takes_no_memory() {
    for (name, file) in bombs() {
        let size = file.len();
        let (outcome, peak) = peak_of(|| merged(file));
        println!("{:>6} KiB of {:>4}: {name}: {outcome:?}", peak >> 10, size >> 10);
        assert!(peak < EXTRA_BYTES + BUDGET, "{name}: {peak} bytes");
    }
}

#[test]
fn good_files_are_merged() {
    for file in files::kinds() {
        let (outcome, peak) = peak_of(|| merged(file));
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
