//! Where events come from: notifications in a file or on standard input, or the directory itself.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use firnline::event::r2;
use firnline::object_store::ObjectStore;
use firnline::{Clock, Error, ErrorKind, EventBatch, EventMessage, EventSource, ObjectEvent, Place, Receipt, Result};
use futures::TryStreamExt;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};

use crate::support::SystemClock;

/// Notifications recorded together.
const BATCH: usize = 500;
/// How often a directory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Notifications that belong together, and lines that are none.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) events: Vec<ObjectEvent>,
    pub(crate) bad: Vec<String>,
}

/// All notifications of a file, or of standard input until it ends.
pub(crate) fn batches(path: &Path) -> Result<Vec<Batch>> {
    let mut batches = vec![Batch::default()];
    for (number, line) in lines(path)?.enumerate() {
        let line = line.map_err(|e| unreadable(path, e))?;
        if line.trim().is_empty() {
            continue;
        }
        if batches.last().is_some_and(|batch| batch.events.len() >= BATCH) {
            batches.push(Batch::default());
        }
        let Some(batch) = batches.last_mut() else { break };
        match r2::parse(line.as_bytes()) {
            Ok(events) => batch.events.extend(events),
            Err(error) => batch.bad.push(format!("line {}: {error}", number + 1)),
        }
    }
    Ok(batches)
}

fn lines(path: &Path) -> Result<Box<dyn Iterator<Item = std::io::Result<String>> + Send>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(std::io::stdin()).lines()));
    }
    let file = File::open(path).map_err(|e| unreadable(path, e))?;
    Ok(Box::new(BufReader::new(file).lines()))
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Invalid,
        format!("events cannot be read. file=`{}`", path.display()),
    )
    .with_source(error)
}

/// A source of events for a loop.
#[derive(Debug)]
pub(crate) enum Feed {
    /// Lines, read by a thread of this host's.
    Notifications(Mutex<mpsc::Receiver<Result<String>>>),
    /// New objects, found by looking.
    Directory {
        place: Place,
        prefix: String,
        clock: SystemClock,
        seen: Mutex<BTreeSet<(String, Option<String>)>>,
    },
}

impl Feed {
    pub(crate) fn of_notifications(path: PathBuf) -> Self {
        let (mut send, receive) = mpsc::channel(BATCH);
        std::thread::spawn(move || {
            let read = |send: &mut mpsc::Sender<Result<String>>| -> Result<()> {
                for line in lines(&path)? {
                    let line = line.map_err(|e| unreadable(&path, e))?;
                    if futures::executor::block_on(send.send(Ok(line))).is_err() {
                        break;
                    }
                }
                Ok(())
            };
            if let Err(error) = read(&mut send) {
                let _ = futures::executor::block_on(send.send(Err(error)));
            }
        });
        Self::Notifications(Mutex::new(receive))
    }

    pub(crate) fn of_directory(place: Place, prefix: String, clock: SystemClock) -> Self {
        Self::Directory {
            place,
            prefix,
            clock,
            seen: Mutex::default(),
        }
    }
}

#[async_trait]
impl EventSource for Feed {
    async fn next_batch(&self) -> Result<Option<EventBatch>> {
        match self {
            Self::Notifications(lines) => {
                let next = futures::future::poll_fn(|context| match lines.lock() {
                    Ok(mut lines) => lines.poll_next_unpin(context),
                    Err(_) => std::task::Poll::Ready(None),
                });
                let Some(line) = next.await.transpose()? else {
                    return Ok(None);
                };
                let mut batch = EventBatch::default();
                if !line.trim().is_empty() {
                    batch.messages.push(EventMessage {
                        receipt: Receipt::new(line.clone()),
                        events: r2::parse(line.as_bytes()),
                    });
                }
                Ok(Some(batch))
            }
            Self::Directory {
                place,
                prefix,
                clock,
                seen,
            } => {
                clock.sleep_until(clock.now() + LOOK_EVERY).await;
                let path = firnline::object_store::path::Path::from(prefix.as_str());
                let listed: Vec<_> = place
                    .store()
                    .list(Some(&path))
                    .try_collect()
                    .await
                    .map_err(|e| Error::from_store("list", &path, e))?;
                let mut batch = EventBatch::default();
                let Ok(seen) = seen.lock() else { return Ok(None) };
                for meta in listed {
                    let key = meta.location.to_string();
                    if seen.contains(&(key.clone(), meta.e_tag.clone())) {
                        continue;
                    }
                    let mut event = ObjectEvent::created(key.clone()).with_size(meta.size);
                    if let Some(etag) = &meta.e_tag {
                        event = event.with_etag(etag.clone());
                    }
                    batch.messages.push(EventMessage {
                        receipt: Receipt::new(format!("{key}\n{}", meta.e_tag.unwrap_or_default())),
                        events: Ok(vec![event]),
                    });
                }
                Ok(Some(batch))
            }
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        // A line on a pipe cannot be given back; what the directory shows is remembered as seen.
        if let Self::Directory { seen, .. } = self
            && let Ok(mut seen) = seen.lock()
        {
            for (key, etag) in receipts.iter().filter_map(|receipt| receipt.as_str().split_once('\n')) {
                let etag = (!etag.is_empty()).then(|| etag.to_owned());
                seen.insert((key.to_owned(), etag));
            }
        }
        Ok(())
    }
}
