//! Uploads one object while it is being written: in equal parts, or in one put if it is small.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};

use super::budget::{Held, Memory};
use crate::error::{Error, Result};

/// Least size of a part but the last (S3).
pub(super) const MIN_PART_BYTES: u64 = 5 << 20;
/// Parts that an object of the target size is cut into at most; stores allow 10,000.
const USUAL_PARTS: u64 = 4_096;
/// What is written is kept in pieces of this size: one buffer that grows would take three times what it holds.
const PIECE_BYTES: usize = 256 << 10;
/// The first pieces are smaller: many objects may be open, and most of them small.
const FIRST_PIECE_BYTES: usize = 8 << 10;

/// The size of the parts of an object that is expected to have `size` bytes.
pub(super) fn part_size(size: u64) -> u64 {
    MIN_PART_BYTES.max(size.div_ceil(USUAL_PARTS))
}

/// The largest size to aim at with parts of `part` bytes: it may be passed by as much again.
pub(super) fn largest_target(part: u64) -> u64 {
    part.saturating_mul(USUAL_PARTS) / 2
}

/// An object being uploaded.
#[derive(Debug)]
pub(super) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    part: usize,
    pending: Pending,
    multipart: Option<Box<dyn MultipartUpload>>,
    held: Held,
}

impl Upload {
    pub(super) fn new(store: Arc<dyn ObjectStore>, path: Path, part: usize, memory: &Memory) -> Self {
        Self {
            store,
            path,
            part: part.max(1),
            pending: Pending::default(),
            multipart: None,
            held: memory.hold(0),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that were written and not uploaded yet.
    pub(super) fn pending_bytes(&self) -> u64 {
        self.pending.len() as u64
    }

    /// Where the object's bytes are written to.
    pub(super) fn writer(&self) -> Pending {
        self.pending.clone()
    }

    /// Uploads whole parts of what has been written. All parts but the last have the same size, which R2 asks for.
    pub(super) async fn drain(&mut self) -> Result<()> {
        self.held.resize(self.pending.len() as u64);
        // More than a part, so that something is left to be the last one.
        while self.pending.len() > self.part {
            let bytes = self.pending.take(self.part);
            self.put_part(bytes).await?;
            self.held.resize(self.pending.len() as u64);
        }
        Ok(())
    }

    /// Uploads the rest and makes the object visible.
    pub(super) async fn finish(&mut self) -> Result<()> {
        self.drain().await?;
        let rest = self.pending.take(self.pending.len());
        if self.multipart.is_none() {
            let put = self.store.put(&self.path, rest).await;
            put.map_err(|e| Error::from_store("put", &self.path, e))?;
        } else {
            self.put_part(rest).await?;
            if let Some(multipart) = &mut self.multipart {
                let complete = multipart.complete().await;
                complete.map_err(|e| Error::from_store("complete upload", &self.path, e))?;
            }
            self.multipart = None;
        }
        self.held.resize(0);
        Ok(())
    }

    /// Gives up; what has been uploaded is released as far as the store lets us.
    pub(super) async fn abort(&mut self) {
        if let Some(mut multipart) = self.multipart.take() {
            // Nothing hangs on it: parts of an unfinished upload are invisible, and buckets expire them.
            let _ = multipart.abort().await;
        }
    }

    async fn put_part(&mut self, part: PutPayload) -> Result<()> {
        let multipart = match &mut self.multipart {
            Some(multipart) => multipart,
            none => {
                let started = self.store.put_multipart(&self.path).await;
                none.insert(started.map_err(|e| Error::from_store("start upload", &self.path, e))?)
            }
        };
        multipart
            .put_part(part)
            .await
            .map_err(|e| Error::from_store("put part", &self.path, e))
    }
}

/// Bytes that were written and not uploaded yet; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending(Arc<Mutex<Pieces>>);

#[derive(Debug, Default)]
struct Pieces {
    full: VecDeque<Bytes>,
    last: BytesMut,
    length: usize,
}

impl Pending {
    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).length
    }

    fn take(&self, count: usize) -> PutPayload {
        let mut pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = count.min(pieces.length);
        pieces.length -= left;
        let mut taken = Vec::with_capacity(left / PIECE_BYTES + 2);
        while left > 0 {
            let piece = match pieces.full.pop_front() {
                Some(mut piece) => {
                    if piece.len() > left {
                        let rest = piece.split_off(left);
                        pieces.full.push_front(rest);
                    }
                    piece
                }
                None => {
                    let length = left.min(pieces.last.len());
                    pieces.last.split_to(length).freeze()
                }
            };
            left -= piece.len();
            taken.push(piece);
        }
        taken.into_iter().collect()
    }
}

impl Pieces {
    fn add(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len();
        while !bytes.is_empty() {
            if self.last.capacity() == self.last.len() {
                let piece = BytesMut::with_capacity(self.length.clamp(FIRST_PIECE_BYTES, PIECE_BYTES));
                let full = std::mem::replace(&mut self.last, piece);
                if !full.is_empty() {
                    self.full.push_back(full.freeze());
                }
            }
            let room = (self.last.capacity() - self.last.len()).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.last.extend_from_slice(now);
            bytes = later;
        }
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn an_object_is_what_was_written_however_it_is_cut() {
        for (written, part) in [(0_usize, 10), (10, 10), (11, 10), (35, 10)] {
            let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let memory = Memory::default();
            let mut upload = Upload::new(Arc::clone(&store), Path::from("x"), part, &memory);
            let content: Vec<u8> = (0..written).map(|i| u8::try_from(i).unwrap()).collect();
            block_on(async {
                for chunk in content.chunks(7) {
                    upload.writer().write_all(chunk).unwrap();
                    upload.drain().await.unwrap();
                }
                upload.finish().await.unwrap();
                let got = store.get(&Path::from("x")).await.unwrap().bytes().await.unwrap();
                assert_eq!(got, content, "{written} bytes in parts of {part}");
            });
        }
    }
}
