//! Local files as the inputs of a merge.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use firnline::arrow::datatypes::SchemaRef;
use firnline::object_store::ObjectStore;
use firnline::object_store::path::Path as ObjectPath;
use firnline::{
    DefaultFileNames, ErrorKind, FileNameParser, MergeInput, ObjectKey, SortField, SourceError, Timestamp,
    TimestampUnit, WriterId, read_footer, unify,
};

use crate::Failure;

/// The inputs, in the order in which they are merged, and the columns they have together.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) sources: Vec<MergeInput>,
    pub(crate) schema: SchemaRef,
}

/// Reads the footers of `files`, each with rows in the order `sort_key`.
pub(crate) async fn read(
    store: &dyn ObjectStore,
    files: &[PathBuf],
    sort_key: &[SortField],
) -> Result<Inputs, Failure> {
    let placed = in_order(files);
    let mut inputs = Vec::new();
    for (file, (_, writer, sequence)) in &placed {
        let path = file.canonicalize().map_err(|e| Failure::of_file(file, e))?;
        let path = ObjectPath::from_absolute_path(path).map_err(|e| Failure::of_file(file, e))?;
        let footer = read_footer(store, &path, None).await.map_err(|error| match error {
            SourceError::Bad(reason) => Failure::bad_source(file, &reason),
            SourceError::Unavailable(error) if error.kind() == ErrorKind::Unsupported => Failure::Usage(error.chain()),
            SourceError::Unavailable(error) => Failure::of_file(file, error.chain()),
        })?;
        inputs.push(MergeInput {
            // It would take memory beside the budget, and reading a local file again costs nothing.
            footer: footer.without_content(),
            writer: writer.clone(),
            sequence: *sequence,
        });
    }
    let files: Vec<PathBuf> = placed.into_iter().map(|(file, _)| file).collect();
    for SortField { column, .. } in sort_key {
        let has = |input: &MergeInput| input.footer.schema.index_of(column).is_ok();
        let lacking = inputs.iter().position(|input| input.footer.rows > 0 && !has(input));
        // Where none has it, the order is wrong and not the file.
        if let Some(index) = lacking.filter(|_| inputs.iter().any(has)) {
            let reason = format!("lacks a column of the sort order. column=`{column}`");
            return Err(Failure::bad_source_at(&files, index, reason));
        }
    }
    let schemas: Vec<SchemaRef> = inputs.iter().map(|input| Arc::clone(&input.footer.schema)).collect();
    let unified = unify(None, &schemas);
    match unified.rejected.first() {
        Some((index, reason)) => Err(Failure::bad_source_at(&files, *index, reason)),
        None => Ok(Inputs {
            files,
            sources: inputs,
            schema: unified.schema,
        }),
    }
}

type Place = (Timestamp, WriterId, u64);

/// The files with their places: those that their names tell if all do, else each is a writer's only file.
fn in_order(files: &[PathBuf]) -> Vec<(PathBuf, Place)> {
    let named: Option<Vec<(PathBuf, Place)>> = files
        .iter()
        .map(|file| Some((file.clone(), place_in_name(file)?)))
        .collect();
    if let Some(mut named) = named {
        named.sort_by(|(_, a), (_, b)| a.cmp(b));
        return named;
    }
    let start = Timestamp::from_millis(0);
    let as_given = files.iter().enumerate();
    as_given
        .map(|(index, file)| (file.clone(), (start, WriterId::new(format!("{index:010}")), 0)))
        .collect()
}

fn place_in_name(file: &Path) -> Option<Place> {
    let parser = DefaultFileNames::new("", TimestampUnit::Milliseconds);
    // The grammar asks for a namespace; what the directory is called does not matter here.
    let key = ObjectKey::new(format!("files/{}", file.file_name()?.to_str()?));
    let name = parser.parse(&key).ok()?;
    Some((name.timestamp, name.writer, name.sequence))
}
