//! What is looked at now and then, and at the end of a simulation.

use std::collections::BTreeSet;

use futures::executor::block_on;

use super::run::Run;
use super::script::Happening;
use super::violation::{Broken, Promise, holds};
use super::watch::difference;
use crate::compactor::Compactor;
use crate::error::Error;
use crate::naming::Namespace;

impl Run {
    /// A reader who comes now sees every row of what has been written once: in the table or in a raw file.
    pub(super) fn check_view(&self, namespace: &str) -> Result<(), Broken> {
        let now = self.world.now();
        let compactor = self.open_read_only()?;
        let name = Namespace::new(namespace);
        if !compactor.namespaces().any(|known| *known == name) {
            return Ok(());
        }
        let view = block_on(compactor.read_view(&name, now));
        let view = view.map_err(|e| Broken::new(Promise::View, e.chain()))?;
        let mut found = self.world.live_rows(namespace)?;
        let shown: BTreeSet<&str> = view.files.iter().map(|file| file.key.as_str()).collect();
        let raw = self.script.sources.iter();
        let raw = raw.filter(|source| shown.contains(source.key.as_str()) && !source.is_corrupt);
        found.extend(raw.flat_map(|source| source.rows.clone()));
        found.sort();
        let happened = self.script.steps.iter().take(self.happened);
        let written = happened.filter_map(|(_, happening)| match happening {
            Happening::Written(index) => Some(self.script.sources.get(*index)?.key.as_str()),
            _ => None,
        });
        let written: BTreeSet<&str> = written.collect();
        let expected = self.world.expected_rows(namespace, &self.script, |source| {
            source.is_corrupt || !written.contains(source.key.as_str())
        });
        holds(found == expected, Promise::View, || difference(&found, &expected))
    }

    fn open_read_only(&self) -> Result<Compactor, Broken> {
        let broken = |error: Error| Broken::new(Promise::NoHalt, error.chain());
        let builder = self.world.true_builder().map_err(broken)?;
        block_on(builder.open_read_only(self.world.now())).map_err(broken)
    }

    /// Every row is in a table once, and nothing is left in the bucket but what was damaged.
    pub(super) fn check_rows(&self) -> Result<(), Broken> {
        let waiting = self.world.waiting_messages();
        holds(waiting == 0, Promise::Ends, || {
            format!("{waiting} messages are never acknowledged")
        })?;
        for source in self.script.sources.iter().filter(|source| !source.is_corrupt) {
            let is_in = self.watch.committed.contains_key(&source.key);
            holds(is_in, Promise::Ends, || format!("never committed: {}", source.key))?;
        }
        let (left, corrupt) = (self.world.keys()?, self.corrupt());
        holds(left == corrupt, Promise::Ends, || {
            format!("sources left {left:?}, damaged {corrupt:?}")
        })?;
        let namespaces: BTreeSet<&String> = self.script.sources.iter().map(|source| &source.namespace).collect();
        for namespace in namespaces {
            let mut found = self.world.live_rows(namespace)?;
            found.sort();
            let expected = self
                .world
                .expected_rows(namespace, &self.script, |source| source.is_corrupt);
            holds(found == expected, Promise::Rows, || difference(&found, &expected))?;
        }
        Ok(())
    }

    /// All is done, and what was damaged is set aside.
    pub(super) fn check_status(&self) -> Result<(), Broken> {
        let status = self.open_read_only()?.status(self.world.now());
        let is_done = status.windows.is_empty() && status.plans.is_empty() && status.halts.is_empty();
        holds(is_done, Promise::Ends, || format!("not done: {status:#?}"))?;
        let aside = status.quarantine.files.iter().map(|file| file.key.to_string());
        let (aside, corrupt): (BTreeSet<String>, _) = (aside.collect(), self.corrupt());
        holds(aside == corrupt, Promise::Remembered, || {
            format!("quarantine {aside:?}, damaged {corrupt:?}")
        })
    }

    fn corrupt(&self) -> BTreeSet<String> {
        let corrupt = self.script.sources.iter().filter(|source| source.is_corrupt);
        corrupt.map(|source| source.key.clone()).collect()
    }
}
