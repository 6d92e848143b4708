//! Notifications in a file or on standard input.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use firnline::event::r2;
use firnline::{Error, ErrorKind, ObjectEvent, ParseError, Result};
use futures::channel::mpsc;
use futures::executor::block_on;
use futures::{FutureExt, SinkExt, StreamExt};

/// Lines recorded together.
const BATCH: usize = 500;

/// Notifications, one JSON per line, read by a thread of this host's.
#[derive(Debug)]
pub(crate) struct Feed {
    lines: mpsc::Receiver<std::io::Result<Vec<u8>>>,
    name: String,
    count: usize,
}

/// Notifications that belong together, and what was found between them that is none.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) events: Vec<ObjectEvent>,
    /// With the number of their line.
    pub(crate) bad: Vec<(usize, ParseError)>,
}

impl Feed {
    /// The lines of a file; `-` is standard input.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let input: Box<dyn Read + Send> = match name.as_str() {
            "-" => Box::new(std::io::stdin()),
            _ => Box::new(File::open(path).map_err(|e| unreadable(ErrorKind::Invalid, &name, e))?),
        };
        let (mut send, lines) = mpsc::channel(BATCH);
        std::thread::spawn(move || {
            for line in BufReader::new(input).split(b'\n') {
                let failed = line.is_err();
                if block_on(send.send(line)).is_err() || failed {
                    break;
                }
            }
        });
        Ok(Self { lines, name, count: 0 })
    }

    /// Waits for a line and takes those along that are there; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Batch>> {
        let mut next = self.lines.next().await;
        if next.is_none() {
            return Ok(None);
        }
        let mut batch = Batch::default();
        let mut taken = 0;
        while let Some(line) = next {
            let line = line.map_err(|e| unreadable(ErrorKind::Unavailable, &self.name, e))?;
            self.count += 1;
            taken += 1;
            if !line.trim_ascii().is_empty() {
                for event in r2::parse(&line) {
                    match event {
                        Ok(event) => batch.events.push(event),
                        Err(error) => batch.bad.push((self.count, error)),
                    }
                }
            }
            next = if taken < BATCH {
                self.lines.next().now_or_never().flatten()
            } else {
                None
            };
        }
        Ok(Some(batch))
    }
}

fn unreadable(kind: ErrorKind, name: &str, error: std::io::Error) -> Error {
    Error::new(kind, format!("--events cannot be read. file=`{name}`")).with_source(error)
}
