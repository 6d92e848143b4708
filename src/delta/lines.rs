//! Objects of JSON lines, read one line at a time: commits and checkpoints of others may list every file of a table.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::error::{LogError, unsupported};
use crate::error::{Error, Result};
use crate::whole::object_at;

/// Longest line. Statistics of some thousand columns take a few megabytes.
const MAX_LINE_BYTES: usize = 256 << 20;

/// Hands over each line that is not blank, with its number from 1 on; `None` where there is no object.
///
/// # Errors
///
/// That of `take`, which ends the reading; `Invalid` where the object has other bytes than the store says.
pub(super) async fn each_line(
    store: &dyn ObjectStore,
    path: &Path,
    mut take: impl FnMut(usize, &[u8]) -> Result<()> + Send,
) -> Result<Option<ObjectMeta>> {
    let failed = |e| Error::from_store("get", path, e);
    let Some(answer) = object_at(store, path).await? else {
        return Ok(None);
    };
    let meta = answer.meta.clone();
    let mut chunks = answer.into_stream();
    let (mut size, mut lines) = (0, Lines::default());
    while let Some(chunk) = chunks.try_next().await.map_err(failed)? {
        size += chunk.len() as u64;
        lines.push(&chunk, &mut take)?;
        if lines.open.len() > MAX_LINE_BYTES {
            return Err(unsupported(format!(
                "a line of more than {MAX_LINE_BYTES} bytes. object=`{path}`"
            )));
        }
    }
    if size != meta.size {
        let object = path.to_string();
        return Err(LogError::Torn { object }.into());
    }
    lines.end(&mut take)?;
    Ok(Some(meta))
}

/// Puts lines together from chunks.
#[derive(Debug, Default)]
struct Lines {
    /// Of lines that have ended.
    count: usize,
    /// What there is of the one that has not.
    open: Vec<u8>,
}

impl Lines {
    fn push(&mut self, chunk: &Bytes, take: &mut impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        let mut rest = chunk.as_ref();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.open.extend_from_slice(line);
            self.end(take)?;
            rest = after.get(1..).unwrap_or_default();
        }
        self.open.extend_from_slice(rest);
        Ok(())
    }

    fn end(&mut self, take: &mut impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        self.count += 1;
        if !self.open.trim_ascii().is_empty() {
            take(self.count, &self.open)?;
        }
        self.open.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let text = b"a\n\n  \nbc\nd";
        for size in 1..=text.len() {
            let mut seen = Vec::new();
            let mut take = |number: usize, line: &[u8]| {
                seen.push((number, line.to_vec()));
                Ok(())
            };
            let mut lines = Lines::default();
            for chunk in text.chunks(size) {
                lines.push(&Bytes::from_static(chunk), &mut take).unwrap();
            }
            lines.end(&mut take).unwrap();
            assert_eq!(
                seen,
                [(1, b"a".to_vec()), (4, b"bc".to_vec()), (5, b"d".to_vec())],
                "{size}"
            );
        }
    }
}
