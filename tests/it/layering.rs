//! A room uses its own layer and those before it, never a later one, and rooms of one layer that are set apart
//! do not see each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Layers from the base up. Rooms of one inner list may see each other, those of different ones of a layer not.
const LAYERS: &[&[&[&str]]] = &[
    &[&[
        "error",
        "time",
        "options",
        "encoding",
        "ids",
        "printable",
        "trace",
        "whole",
    ]],
    &[&[
        "naming",
        "event",
        "plan",
        "data_file",
        "quarantine",
        "halt",
        "partitioning",
        "place",
        "status",
    ]],
    // Before the merger, which converts.
    &[&["schema"]],
    &[&["window"], &["merge"], &["sink"], &["state"]],
    &[&["ledger"], &["reclaim"], &["delta"], &["iceberg"]],
    &[&["compactor"]],
    &[&["testing"]],
];

#[test]
fn rooms_see_only_what_lies_before_them() {
    let places = places();
    let mut wrong = Vec::new();
    for file in sources() {
        let room = room_of(&file);
        if room == "lib" {
            continue;
        }
        let Some(&from) = places.get(room.as_str()) else {
            wrong.push(format!("{}: the room `{room}` is in no layer", file.display()));
            continue;
        };
        for seen in rooms_seen(&without_tests(&fs::read_to_string(&file).unwrap())) {
            match places.get(seen.as_str()) {
                Some(&to) if seen == room || to == from || to.0 < from.0 => {}
                Some(_) => wrong.push(format!("{}: `{room}` must not see `{seen}`", file.display())),
                None => wrong.push(format!("{}: `crate::{seen}` is no room of a layer", file.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn uses_are_read_in_every_form() {
    let text = "use crate::error::{Error, Result};\nuse crate::{time::Clock, ids, state::{StateKey, Seq}};\n\
                pub(crate) use crate::plan::Plan;\nlet x = crate::sink::f(crate :: naming::g());\n// crate::delta\n";
    let expected = ["error", "ids", "naming", "plan", "sink", "state", "time"];
    assert_eq!(rooms_seen(text).into_iter().collect::<Vec<_>>(), expected);
}

/// Layer and group of each room.
fn places() -> BTreeMap<&'static str, (usize, usize)> {
    let mut places = BTreeMap::new();
    for (layer, groups) in LAYERS.iter().enumerate() {
        for (group, rooms) in groups.iter().enumerate() {
            places.extend(rooms.iter().map(|room| (*room, (layer, group))));
        }
    }
    places
}

/// The rooms that code names after `crate::`, singly or in braces.
fn rooms_seen(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .flat_map(|line| line.chars().filter(|c| !c.is_whitespace()).chain([' ']))
        .collect();
    let code = code.replace(' ', "");
    let mut rooms = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{') {
            Some(group) => rooms.extend(heads_of(group)),
            None => rooms.extend(identifier(rest)),
        }
    }
    rooms
}

/// First names of the items of a brace group whose opening brace has been taken off.
fn heads_of(group: &str) -> Vec<String> {
    let (mut heads, mut depth, mut item) = (Vec::new(), 0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                heads.extend(identifier(&group[item..at]));
                item = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    // Types that the root re-exports and macros of the root are no rooms.
    let room = name.starts_with(|c: char| c.is_lowercase());
    room.then_some(name)
}

/// Unit tests may use what they like.
fn without_tests(text: &str) -> String {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned()
}

fn room_of(file: &Path) -> String {
    let below = file.strip_prefix(root()).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All source files of the library.
pub(crate) fn sources() -> Vec<PathBuf> {
    let (mut files, mut directories) = (Vec::new(), vec![root()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
