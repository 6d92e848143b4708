//! The lane manifest: what a lane was made with, for as long as it lives.

use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::encoding::{decode_segment, encode_segment};
use crate::error::{Error, ErrorKind, Result};
use crate::halt::Halt;
use crate::ids::LaneId;
use crate::ledger::objects::{self, Created};
use crate::naming::Namespace;
use crate::options::SortField;
use crate::place::Place;
use crate::time::Timestamp;

/// `lanes/{lane}/lane.json`: created once, the only name without the lane id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LaneManifest {
    /// Version of this document; 1.
    pub(crate) version: u32,
    pub(crate) lane: LaneId,
    pub(crate) namespace: Namespace,
    pub(crate) table_location: String,
    pub(crate) table_format: String,
    /// The id that the table gets if this lane creates it.
    pub(crate) new_table_uuid: Uuid,
    /// The window size at first; later ones are in `window-sizes/`.
    pub(crate) window_size_ms: u64,
    pub(crate) sort_order: Vec<SortField>,
    /// [`FileNameParser::grammar`](crate::FileNameParser::grammar).
    pub(crate) grammar: String,
    /// Whether an operator made this lane over a table that was there: what its sources were is then in
    /// `settled/`.
    #[serde(default)]
    pub(crate) adopted: bool,
}

impl LaneManifest {
    /// Refuses settings other than the lane's own, naming the first that differs. The window size may
    /// change; its history is kept beside the manifest.
    pub(crate) fn check(&self, wanted: &Self) -> Result<(), Halt> {
        let order = |fields: &[SortField]| {
            let names = fields.iter().map(|f| {
                let sign = if f.descending { "-" } else { "" };
                let nulls = if f.nulls_first { " nulls first" } else { "" };
                format!("{sign}{}{nulls}", f.column)
            });
            names.collect::<Vec<_>>().join(",")
        };
        let pairs = [
            ("tableFormat", self.table_format.clone(), wanted.table_format.clone()),
            (
                "tableLocation",
                self.table_location.clone(),
                wanted.table_location.clone(),
            ),
            ("sortOrder", order(&self.sort_order), order(&wanted.sort_order)),
            ("keyGrammar", self.grammar.clone(), wanted.grammar.clone()),
        ];
        for (field, lane, now) in pairs {
            if lane != now {
                return Err(Halt::SettingsChanged {
                    field: field.to_owned(),
                    lane,
                    now,
                });
            }
        }
        Ok(())
    }
}

/// The directory of all lanes.
pub(crate) fn lanes_dir(control: &Place) -> Path {
    control.prefix().clone().join("lanes")
}

/// The directory of a lane: one percent-encoded segment, so that `eu` and `eu/plans` cannot meet.
pub(crate) fn lane_dir(control: &Place, namespace: &Namespace) -> Result<Path> {
    let segment = encode_segment(namespace.as_str());
    crate::place::parse_path(&format!("{}/{segment}", lanes_dir(control)))
}

/// The namespace of a path of [`lane_dir`].
pub(crate) fn namespace_of_dir(dir: &Path) -> Option<Namespace> {
    dir.parts()
        .next_back()
        .map(|part| Namespace::new(decode_segment(part.as_ref())))
}

fn manifest_path(control: &Place, namespace: &Namespace) -> Result<Path> {
    Ok(lane_dir(control, namespace)?.join("lane.json"))
}

/// Reads the manifest of `namespace` and when it was made by the store's clock.
pub(crate) async fn read(control: &Place, namespace: &Namespace) -> Result<Option<(LaneManifest, Timestamp)>> {
    let path = manifest_path(control, namespace)?;
    let Some((bytes, meta)) = objects::read(control.store().as_ref(), &path).await? else {
        return Ok(None);
    };
    Ok(Some((decode(&path, &bytes)?, meta.last_modified.into())))
}

fn decode(path: &Path, bytes: &[u8]) -> Result<LaneManifest> {
    // The version first: what else stands in a later one is not known here.
    let Versioned { version } = objects::decode(path, bytes)?;
    if version != 1 {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("lane manifest of a later version. object=`{path}` version=`{version}`"),
        ));
    }
    objects::decode(path, bytes)
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// The lanes of a namespace that have objects in their directory, in no order.
pub(crate) async fn lanes_of(control: &Place, namespace: &Namespace) -> Result<Vec<LaneId>> {
    let dir = lane_dir(control, namespace)?;
    let listed = control.store().list_with_delimiter(Some(&dir)).await;
    let listed = listed.map_err(|e| Error::from_store("list", &dir, e))?;
    let ids = listed
        .common_prefixes
        .iter()
        .filter_map(|dir| dir.filename()?.parse().ok());
    Ok(ids.collect())
}

/// Creates the manifest of a namespace, or reads that of whoever was first.
pub(crate) async fn create(control: &Place, wanted: &LaneManifest) -> Result<LaneManifest> {
    let path = manifest_path(control, &wanted.namespace)?;
    match objects::create_once(control.store().as_ref(), &path, objects::encode(wanted)?).await? {
        Created::Ours => Ok(wanted.clone()),
        Created::Theirs(bytes) => decode(&path, &bytes),
    }
}

/// Puts another manifest in the place of one whose lane an operator has ended, in one step.
pub(crate) async fn replace(control: &Place, wanted: &LaneManifest) -> Result<()> {
    let path = manifest_path(control, &wanted.namespace)?;
    let bytes = objects::encode(wanted)?;
    let put = control.store().put(&path, bytes.into()).await;
    put.map(|_| ()).map_err(|e| Error::from_store("put", &path, e))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::ledger) fn manifest() -> LaneManifest {
        LaneManifest {
            version: 1,
            lane: LaneId::from_u128(7),
            namespace: Namespace::new("eu/users"),
            table_location: "file:///t/eu/users".into(),
            table_format: "delta".into(),
            new_table_uuid: Uuid::nil(),
            window_size_ms: 3_600_000,
            sort_order: vec![SortField::ascending("ts")],
            grammar: "g".into(),
            adopted: false,
        }
    }

    #[test]
    fn other_settings_are_refused_by_name_and_another_window_size_is_not() {
        let mut wanted = manifest();
        wanted.window_size_ms = 1;
        wanted.lane = LaneId::from_u128(8);
        assert_eq!(manifest().check(&wanted), Ok(()));
        wanted.sort_order = vec![SortField::descending("ts")];
        assert_eq!(
            manifest().check(&wanted).unwrap_err().to_string(),
            "settings differ from those the lane was made with: put them back, or `adopt` goes on with the new ones. \
             field=`sortOrder` lane=`ts` now=`-ts`"
        );
    }

    #[test]
    fn a_later_version_is_refused_whatever_it_holds_and_garbage_is_bad_data() {
        let path = Path::from("lanes/u/lane.json");
        let later = decode(&path, br#"{"version":2,"lanes":[]}"#).unwrap_err();
        assert_eq!(later.kind(), ErrorKind::Unsupported);
        for garbage in [&b""[..], b"{\"version\":1", b"{\"version\":1}"] {
            assert_eq!(decode(&path, garbage).unwrap_err().kind(), ErrorKind::Data);
        }
    }

    #[test]
    fn lane_directories_are_one_segment() {
        let store = std::sync::Arc::new(object_store::memory::InMemory::new());
        let control = Place::new("memory:///c", store, "control").unwrap();
        let dir = lane_dir(&control, &Namespace::new("eu/users")).unwrap();
        assert_eq!(dir.as_ref(), "control/lanes/eu%2Fusers");
        assert_eq!(namespace_of_dir(&dir), Some(Namespace::new("eu/users")));
    }
}
