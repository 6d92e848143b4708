//! Text from outside, as it may stand in a line of a log.

use std::fmt::{self, Display, Write};

/// Shows a text on one line: characters that break lines, move the cursor or turn the direction of writing are escaped as
/// Rust escapes them.
///
/// Keys, writer ids, column names and the answers of stores are chosen by others. Shown as they are they could forge the
/// lines of a log, or hide what comes after them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printable<T>(T);

/// As [`Printable`].
pub(crate) fn printable<T: Display>(text: T) -> Printable<T> {
    Printable(text)
}

impl<T: Display> Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, unsafe_char)) = rest.char_indices().find(|(_, char)| misleads(*char)) {
            let (before, from) = rest.split_at(at);
            self.0.write_str(before)?;
            write!(self.0, "{}", unsafe_char.escape_default())?;
            rest = from.get(unsafe_char.len_utf8()..).unwrap_or_default();
        }
        self.0.write_str(rest)
    }
}

/// Control characters, the separators of lines and paragraphs, and what changes the direction of writing (Unicode
/// Standard Annex 9, section 2).
fn misleads(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{2028}' | '\u{2029}')
        || matches!(char, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_forges_a_line_and_all_other_text_stays() {
        let shown = |text: &str| printable(text).to_string();
        assert_eq!(
            shown("data/eu/ü \"x\" \\n 漢.parquet"),
            "data/eu/ü \"x\" \\n 漢.parquet"
        );
        assert_eq!(
            shown("a\r\nERROR all lost\t\u{1b}[2K"),
            "a\\r\\nERROR all lost\\t\\u{1b}[2K"
        );
        assert_eq!(
            shown("\u{85}\u{7f}\u{2028}\u{202e}"),
            "\\u{85}\\u{7f}\\u{2028}\\u{202e}"
        );
    }
}
