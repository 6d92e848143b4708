//! An object store on which one chosen operation goes wrong.

use std::borrow::BorrowMut;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::FutureExt;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use super::fault::{Course, Fault, Faults, InjectedFault, OperationKind, Step};

/// Wraps an object store: counts and logs every operation, and strikes with the [`Fault`] planned for its
/// number. All methods are forwarded; each part of a multipart upload, each deleted path and each listing
/// counts as one operation.
#[derive(Clone, Debug)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    name: String,
    faults: Faults,
    /// What was written last, which a stale listing does not show.
    newest: Arc<Mutex<Option<Path>>>,
}

impl FaultStore {
    /// Wraps `inner`; `name` stands in the log.
    pub fn new(inner: Arc<dyn ObjectStore>, name: impl Into<String>, faults: &Faults) -> Self {
        Self {
            inner,
            name: name.into(),
            faults: faults.clone(),
            newest: Arc::default(),
        }
    }

    fn begin(&self, kind: OperationKind, path: &str, bytes: usize) -> Step {
        self.faults.begin(&self.name, kind, path, bytes)
    }

    /// Carries out `operation`, unless the fault of its number has it otherwise.
    async fn carry_out<T>(&self, step: Step, operation: impl Future<Output = Result<T>>) -> Result<T> {
        self.faults.land().await;
        let Step { index, course } = step;
        let injected = |fault| StoreError::from(InjectedFault { fault, index });
        let fail = |applied, error: StoreError| {
            self.faults.end(index, applied, Some(error.to_string()));
            Err(error)
        };
        match course {
            Course::Hang => futures::future::pending().await,
            Course::Refuse(fault) => fail(false, injected(fault)),
            Course::Tear => fail(false, injected(Fault::TornBody)),
            Course::Delay => fail(false, injected(Fault::AppliedLate)),
            Course::Apply(_) | Course::ApplyAndHang | Course::Pass | Course::Stale => match (operation.await, course) {
                (answer, Course::ApplyAndHang) => {
                    self.faults.end(index, answer.is_ok(), None);
                    futures::future::pending().await
                }
                (Err(error), _) => fail(false, error),
                (Ok(_), Course::Apply(fault)) => fail(true, injected(fault)),
                (Ok(value), _) => {
                    self.faults.end(index, true, None);
                    Ok(value)
                }
            },
        }
    }

    /// As [`carry_out`](Self::carry_out), and the fault may be that a write arrives late.
    async fn write<T: Send>(
        &self,
        step: Step,
        operation: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        if !matches!(step.course, Course::Delay) {
            return self.carry_out(step, operation).await;
        }
        let late = async { operation.await.map(drop).map_err(|error| error.to_string()) };
        self.faults.send_late(step, late);
        self.carry_out(step, futures::future::pending()).await
    }

    /// As [`carry_out`](Self::carry_out), and a stale read does not find the object.
    async fn read<T>(&self, step: Step, path: &Path, operation: impl Future<Output = Result<T>>) -> Result<T> {
        if !matches!(step.course, Course::Stale) {
            return self.carry_out(step, operation).await;
        }
        let error = StoreError::NotFound {
            path: path.to_string(),
            source: Box::new(InjectedFault {
                fault: Fault::StaleRead,
                index: step.index,
            }),
        };
        self.faults.end(step.index, false, Some(error.to_string()));
        Err(error)
    }

    fn written(&self, path: &Path) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.clone());
    }

    fn shows(&self, step: Step, path: &Path) -> bool {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(step.course, Course::Stale) || newest.as_ref() != Some(path)
    }

    fn listing(
        &self,
        prefix: Option<&Path>,
        list: impl FnOnce(&Self) -> BoxStream<'static, Result<ObjectMeta>> + Send + 'static,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        let prefix = prefix.map(ToString::to_string).unwrap_or_default();
        let objects = async move {
            let step = this.begin(OperationKind::List, &prefix, 0);
            let all = async { Ok(list(&this).collect::<Vec<_>>().await) };
            let listed = match this.carry_out(step, all).await {
                Ok(all) => all,
                Err(error) => vec![Err(error)],
            };
            let shown = move |meta: &Result<ObjectMeta>| {
                futures::future::ready(meta.as_ref().map_or(true, |meta| this.shows(step, &meta.location)))
            };
            stream::iter(listed).filter(shown)
        };
        objects.flatten_stream().boxed()
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let kind = match opts.mode {
            PutMode::Create => OperationKind::PutCreate,
            PutMode::Overwrite => OperationKind::Put,
            PutMode::Update(_) => OperationKind::PutUpdate,
        };
        let step = self.begin(kind, location.as_ref(), payload.content_length());
        let (this, location) = (self.clone(), location.clone());
        let put = async move {
            let result = this.inner.put_opts(&location, payload, opts).await?;
            this.written(&location);
            Ok(result)
        };
        self.write(step, put).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let step = self.begin(OperationKind::CreateMultipart, location.as_ref(), 0);
        let upload = self
            .carry_out(step, self.inner.put_multipart_opts(location, opts))
            .await?;
        Ok(Box::new(FaultUpload {
            store: self.clone(),
            path: location.clone(),
            inner: Some(upload),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let kind = if head { OperationKind::Head } else { OperationKind::Get };
        let step = self.begin(kind, location.as_ref(), 0);
        let get = self.inner.get_opts(location, options);
        if !head && matches!(step.course, Course::Tear) {
            let result = get.await?;
            self.faults.end(step.index, true, None);
            return tear(result, step.index).await;
        }
        self.read(step, location, get).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let step = self.begin(OperationKind::Get, location.as_ref(), 0);
        self.read(step, location, self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let delete = move |location: Result<Path>| {
            let this = this.clone();
            async move {
                let location = location?;
                let step = this.begin(OperationKind::Delete, location.as_ref(), 0);
                let one = stream::iter([Ok(location.clone())]).boxed();
                let answers = this.inner.delete_stream(one).collect::<Vec<_>>();
                let deleted = async { answers.await.into_iter().collect::<Result<Vec<_>>>() };
                this.write(step, deleted).await.map(|_| location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let under = prefix.cloned();
        self.listing(prefix, move |this| this.inner.list(under.as_ref()))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (under, offset) = (prefix.cloned(), offset.clone());
        self.listing(prefix, move |this| this.inner.list_with_offset(under.as_ref(), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let under = prefix.map(ToString::to_string).unwrap_or_default();
        let step = self.begin(OperationKind::List, &under, 0);
        let mut listed = self.carry_out(step, self.inner.list_with_delimiter(prefix)).await?;
        listed.objects.retain(|meta| self.shows(step, &meta.location));
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let step = self.begin(OperationKind::Copy, to.as_ref(), 0);
        self.carry_out(step, self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let step = self.begin(OperationKind::Rename, to.as_ref(), 0);
        self.carry_out(step, self.inner.rename_opts(from, to, options)).await
    }
}

/// Half of a body, then an error.
async fn tear(result: GetResult, index: usize) -> Result<GetResult> {
    let meta = result.meta.clone();
    let (range, attributes, extensions) = (
        result.range.clone(),
        result.attributes.clone(),
        result.extensions.clone(),
    );
    let body = result.bytes().await?;
    let half = body.slice(..body.len() / 2);
    let fault = Fault::TornBody;
    let torn = [Ok(half), Err(InjectedFault { fault, index }.into())];
    Ok(GetResult {
        payload: GetResultPayload::Stream(stream::iter(torn).boxed()),
        meta,
        range,
        attributes,
        extensions,
    })
}

#[derive(Debug)]
struct FaultUpload {
    store: FaultStore,
    path: Path,
    /// Gone once it is completed, perhaps late.
    inner: Option<Box<dyn MultipartUpload>>,
}

impl FaultUpload {
    fn is_over(&self) -> StoreError {
        StoreError::Generic {
            store: "FaultStore",
            source: format!("the upload is complete. path=`{}`", self.path).into(),
        }
    }
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let step = self
            .store
            .begin(OperationKind::Part, self.path.as_ref(), data.content_length());
        // A part that is not to be carried out must not even begin: some stores begin in this call.
        let carried_out = matches!(
            step.course,
            Course::Apply(_) | Course::ApplyAndHang | Course::Pass | Course::Stale
        );
        let part = match &mut self.inner {
            None => futures::future::err(self.is_over()).boxed(),
            Some(inner) if carried_out => inner.put_part(data),
            Some(_) => futures::future::pending().boxed(),
        };
        let store = self.store.clone();
        async move { store.carry_out(step, part).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let step = self
            .store
            .begin(OperationKind::CompleteMultipart, self.path.as_ref(), 0);
        let store = self.store.clone();
        if matches!(step.course, Course::Delay)
            && let Some(inner) = self.inner.take()
        {
            return store
                .write(step, complete(store.clone(), self.path.clone(), inner))
                .await;
        }
        let is_over = self.is_over();
        let inner = self.inner.as_mut().ok_or(is_over)?;
        store
            .carry_out(step, complete(store.clone(), self.path.clone(), inner))
            .await
    }

    async fn abort(&mut self) -> Result<()> {
        let step = self.store.begin(OperationKind::AbortMultipart, self.path.as_ref(), 0);
        let store = self.store.clone();
        let inner = &mut self.inner;
        // A request to complete that is on its way is not called back.
        let abort = async {
            match inner {
                Some(inner) => inner.abort().await,
                None => Ok(()),
            }
        };
        store.carry_out(step, abort).await
    }
}

async fn complete(
    store: FaultStore,
    path: Path,
    mut upload: impl BorrowMut<Box<dyn MultipartUpload>>,
) -> Result<PutResult> {
    let result = upload.borrow_mut().complete().await?;
    store.written(&path);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    fn wrapped(faults: &Faults) -> (Arc<InMemory>, FaultStore) {
        let inner = Arc::new(InMemory::new());
        (inner.clone(), FaultStore::new(inner, "data", faults))
    }

    async fn upload(store: &FaultStore) -> Result<PutResult> {
        let mut upload = store.put_multipart(&Path::from("big")).await?;
        upload.put_part("ab".into()).await?;
        upload.put_part("c".into()).await?;
        upload.complete().await
    }

    #[test]
    fn every_request_is_one_operation_of_the_log() {
        let faults = Faults::none();
        let (_, store) = wrapped(&faults);
        let path = Path::from("x");
        block_on(async {
            store.put(&path, "abcd".into()).await.unwrap();
            upload(&store).await.unwrap();
            store.head(&path).await.unwrap();
            store.get_ranges(&path, &[0..1, 2..3]).await.unwrap();
            assert_eq!(store.list(None).count().await, 2);
            let paths = stream::iter([Ok(path.clone()), Ok(Path::from("big"))]);
            assert_eq!(store.delete_stream(paths.boxed()).count().await, 2);
        });
        let log = faults.log();
        let kinds: Vec<_> = log.iter().map(|operation| (operation.kind, operation.bytes)).collect();
        let expected = [
            (OperationKind::Put, 4),
            (OperationKind::CreateMultipart, 0),
            (OperationKind::Part, 2),
            (OperationKind::Part, 1),
            (OperationKind::CompleteMultipart, 0),
            (OperationKind::Head, 0),
            (OperationKind::Get, 0),
            (OperationKind::List, 0),
            (OperationKind::Delete, 0),
            (OperationKind::Delete, 0),
        ];
        assert_eq!(kinds, expected);
        assert!(
            log.iter()
                .all(|operation| operation.applied && operation.error.is_none())
        );
    }

    #[test]
    fn a_crash_takes_this_and_all_later_operations_until_the_restart() {
        for (fault, written) in [(Fault::CrashBefore, false), (Fault::CrashAfter, true)] {
            let faults = Faults::at(1, fault);
            let (inner, store) = wrapped(&faults);
            let (one, two) = (Path::from("one"), Path::from("two"));
            block_on(async {
                store.put(&one, "1".into()).await.unwrap();
                let error = store.put(&two, "2".into()).await.unwrap_err();
                assert!(error.to_string().contains("injected fault"), "{error}");
                store.get(&one).await.unwrap_err();
                assert_eq!(inner.head(&two).await.is_ok(), written);
                assert!(faults.crashed());
                faults.restart();
                store.get(&one).await.unwrap();
            });
            let applied: Vec<_> = faults.log().iter().map(|operation| operation.applied).collect();
            assert_eq!(applied, [true, written, false, true]);
        }
    }

    #[test]
    fn a_part_that_fails_is_not_there_and_a_completed_upload_may_seem_to_have_failed() {
        let faults = Faults::at(2, Fault::ErrorNotApplied);
        let (inner, store) = wrapped(&faults);
        block_on(upload(&store)).unwrap_err();
        assert_eq!(faults.operations(), 3);
        assert!(block_on(inner.head(&Path::from("big"))).is_err());
        let (inner, store) = wrapped(&Faults::at(3, Fault::AppliedButError));
        block_on(upload(&store)).unwrap_err();
        assert_eq!(block_on(inner.head(&Path::from("big"))).unwrap().size, 3);
    }

    #[test]
    fn reads_may_be_stale_torn_or_never_end() {
        let path = Path::from("x");
        let read = |fault| {
            let (_, store) = wrapped(&Faults::at(1, fault));
            block_on(store.put(&path, "abcd".into())).unwrap();
            store
        };
        let stale = block_on(read(Fault::StaleRead).get(&path)).unwrap_err();
        assert!(matches!(stale, StoreError::NotFound { .. }), "{stale}");
        assert_eq!(block_on(read(Fault::StaleRead).list(None).count()), 0);
        let torn = block_on(read(Fault::TornBody).get(&path)).unwrap();
        let pieces: Vec<_> = block_on(torn.into_stream().collect());
        assert_eq!(pieces[0].as_ref().unwrap(), "ab");
        assert!(pieces[1].is_err());
        assert!(read(Fault::Hang).get(&path).now_or_never().is_none());
    }
}
