//! The end of a schedule: nothing goes wrong any more, and what was promised is looked at.

use super::machine::Machine;
use super::model::Version;
use super::place::Presence;
use super::schedule::{Held, Mode, Schedule, names, with_causes};
use crate::world::backend_name;
use shard::ErrorKind;
use shard::catalog::ObjectState;
use shard::format::FileName;
use shard::id::{ObjectId, VersionId};
use shard::ops::recover::{RecoverOptions, RecoverOutput, RecoverWhat, recover};
use shard::ops::verify::{ObjectVerdict, VerifyMode, VerifyOptions, VerifyReport, verify};
use shard::store::{Draining, MissingCatalog, Store};
use std::fs;
use std::path::PathBuf;

/// The machine that has nothing but the key.
const FRESH: usize = 2;

/// How a recovery came out, and where to.
type Recovered = (shard::Result<()>, PathBuf);

impl Schedule {
    pub(super) fn settle(&mut self) -> Held {
        self.calm();
        match self.mode {
            Mode::Within => self.settle_within(),
            Mode::Unlimited => self.settle_unlimited(),
        }
    }

    /// Every place that is not gone for good answers, and has room.
    fn calm(&mut self) {
        let mut state = self.world.state();
        state.weather = state.weather.calmed();
        for place in &mut state.places {
            place.is_full = false;
            if place.presence == Presence::Away {
                place.presence = Presence::Here;
            }
        }
        drop(state);
        self.tell("all is calm");
    }

    fn settle_within(&mut self) -> Held {
        for machine in 0..2 {
            self.catch_up(machine)?;
            self.learn(machine)?;
        }
        // As it is now, damaged within limits: whoever put a file gets it back.
        let by = |schedule: &Self, machine: usize| -> Vec<Version> {
            let all = schedule.model.versions.iter();
            all.filter(|version| version.by == machine && version.must_be_there()).cloned().collect()
        };
        for machine in 0..2 {
            let versions = by(self, machine);
            self.come_back(machine, &versions)?;
        }
        for machine in [0, 1] {
            self.catch_up(machine)?;
            self.repair(machine, false)?.ok_or("a repair failed, and nothing is wrong any more")?;
        }
        self.catch_up(0)?;
        self.everything_is_healthy(0)?;
        self.everything_comes_back(0)?;
        self.collect_garbage(0, false)?;
        self.everything_is_healthy(0)?;
        self.everything_comes_back(0)?;
        self.start_afresh()?;
        self.everything_comes_back(FRESH)
    }

    /// A machine hears of all there is.
    fn catch_up(&mut self, machine: usize) -> Held {
        if self.lost_catalogs[machine] {
            if !self.rebuild(machine, None)? {
                return Err("a catalog cannot be made anew, and nothing is wrong any more".to_owned());
            }
        } else {
            let work =
                async |store: &mut Store| shard::ops::refresh::refresh(store, Default::default()).await.map(drop);
            self.must((machine, "refresh"), work)?;
        }
        let count = self.blank.marks.len();
        let work = async |store: &mut Store| {
            for number in 1..=count {
                store.set_draining(&backend_name(number), Draining::No)?;
            }
            Ok(())
        };
        self.must((machine, "undrain"), work)
    }

    fn must<T>(&mut self, what: (usize, &str), work: impl AsyncFnOnce(&mut Store) -> shard::Result<T>) -> Held<T> {
        let done = self.operate(what, (None, MissingCatalog::Refuse), work)?;
        let done = done.ok_or("it died, and nobody killed it")?;
        done.map_err(|error| format!("{} failed, and nothing is wrong any more: {}", what.1, with_causes(&error)))
    }

    /// All is as it should be, and a repair leaves it so.
    fn everything_is_healthy(&mut self, machine: usize) -> Held {
        let second = self.repair(machine, false)?;
        let changes = self.world.state().changes;
        let third = self.repair(machine, false)?;
        if third != Some(0) || self.world.state().changes != changes {
            return Err(format!("a repair wrote {second:?} bytes, and one after it {third:?}"));
        }
        let options = VerifyOptions { mode: VerifyMode::Full, ..VerifyOptions::default() };
        let report = self.must((machine, "verify"), async |store: &mut Store| verify(store, options).await)?;
        self.judge(&report)
    }

    fn judge(&self, report: &VerifyReport) -> Held {
        let state = self.world.state();
        // What a put had begun when its process died, and its catalog went with the journal, was never anything.
        // Where a place is gone, nobody can know that nothing more of it is there.
        let is_one_gone = state.places.iter().any(|place| place.presence == Presence::Gone);
        let is_out_of_reach = |object: &ObjectVerdict| match object.state {
            ObjectState::Lost => true,
            ObjectState::Unavailable => is_one_gone,
            ObjectState::Healthy | ObjectState::Degraded => false,
        };
        let counts = |object: &&ObjectVerdict| !is_out_of_reach(object) || state.whole_once.contains(&object.id);
        let mut objects = report.objects.iter().filter(counts);
        if let Some(bad) = objects.clone().find(|object| object.state != ObjectState::Healthy) {
            return Err(format!("not all is healthy after a repair: {bad:?}"));
        }
        let parity = |object: &ObjectVerdict| Some(object.total_shards - object.data_shards);
        match objects.find(|object| object.margin != parity(object)) {
            Some(object) => Err(format!("the margin is not full after a repair: {object:?}")),
            None => Ok(()),
        }
    }

    /// Every version that must be there, by its id and to the byte, and of each name nothing that was removed.
    fn everything_comes_back(&mut self, machine: usize) -> Held {
        let versions: Vec<_> = self.model.versions.iter().filter(|version| version.must_be_there()).cloned().collect();
        self.come_back(machine, &versions)?;
        for (wanted, (came, path)) in names().zip(self.newest(machine)?) {
            self.newest_is_right(machine, &wanted, (came, path))?;
        }
        Ok(())
    }

    /// Recovers files in one process, each to a path of its own: these versions, or the newest.
    fn recover_many(&mut self, machine: usize, wanted: &[(FileName, Option<VersionId>)]) -> Held<Vec<Recovered>> {
        let folder = self.folder.path().join("back");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("a folder");
        let work = async |store: &mut Store| {
            let mut came = Vec::new();
            for (number, (name, version)) in wanted.iter().enumerate() {
                let path = folder.join(number.to_string());
                let what = RecoverWhat::Names(vec![name.clone()]);
                let output = RecoverOutput::Path(path.clone());
                let options = RecoverOptions { version: *version, ..RecoverOptions::new(what, output) };
                came.push((recover(store, options).await.map(drop), path));
            }
            Ok(came)
        };
        self.must((machine, "recover"), work)
    }

    /// The newest version of each name, as a machine sees it.
    fn newest(&mut self, machine: usize) -> Held<Vec<Recovered>> {
        let wanted: Vec<_> = names().map(|name| (name, None)).collect();
        self.recover_many(machine, &wanted)
    }

    fn come_back(&mut self, machine: usize, versions: &[Version]) -> Held {
        let wanted: Vec<_> = versions.iter().map(|version| (version.name.clone(), version.id)).collect();
        for (version, (came, path)) in versions.iter().zip(self.recover_many(machine, &wanted)?) {
            let said = format!("version {:?} of {} on machine {machine}", version.id, version.name);
            match came {
                Ok(()) if fs::read(&path).is_ok_and(|bytes| bytes == version.bytes) => self.counts.recovered += 1,
                Ok(()) => return Err(format!("{said} came back with other bytes")),
                Err(error) => return Err(format!("{said} is lost: {}", with_causes(&error))),
            }
        }
        Ok(())
    }

    fn newest_is_right(&mut self, machine: usize, wanted: &FileName, (came, path): Recovered) -> Held {
        let of_name = || self.model.versions.iter().filter(|version| version.name == *wanted);
        let must_be = of_name().any(Version::must_be_there);
        match came {
            Err(error) if error.kind == ErrorKind::NotFound && !must_be => Ok(()),
            Ok(()) => {
                let bytes = fs::read(&path).map_err(|error| format!("it is not there: {error}"))?;
                let is_it = |version: &&Version| version.bytes == bytes;
                let right = match self.is_one_line() {
                    true => self.model.may_be_newest(wanted).iter().any(is_it),
                    false => of_name().filter(|version| version.may_be_there()).any(|version| is_it(&version)),
                };
                let which = of_name().position(|version| version.bytes == bytes);
                if right { Ok(()) } else { Err(format!("{wanted} came back as its {which:?}th version on {machine}")) }
            }
            Err(error) if must_be => Err(format!("{wanted} is lost on {machine}: {}", with_causes(&error))),
            // What may have been removed, or never whole, may be known and unreadable.
            Err(_) => Ok(()),
        }
    }

    /// One more machine, which makes its catalog from the places alone.
    fn start_afresh(&mut self) -> Held {
        let seed = self.dice.next();
        let machine = Machine::new(self.folder.path().join("fresh"), &self.blank, seed);
        machine.lose_catalog();
        self.machines.push(machine);
        self.lost_catalogs.push(true);
        if self.rebuild(FRESH, None)? { Ok(()) } else { Err("nothing can be made of the places".to_owned()) }
    }

    /// What the places still hold comes back, and nothing else does.
    fn settle_unlimited(&mut self) -> Held {
        for machine in 0..2 {
            if !self.lost_catalogs[machine] {
                self.nothing_else_comes_back(machine)?;
            }
        }
        self.start_afresh()?;
        self.learn(FRESH)?;
        let readable = self.world.state().readable();
        let is_there = |objects: &[ObjectId]| objects.iter().all(|object| readable.contains(object));
        let all = || self.model.versions.iter();
        let kept: Vec<_> =
            all().filter(|version| version.must_be_there() && is_there(&version.objects)).cloned().collect();
        let told = |version: &&Version| !version.removals.is_empty() && is_there(&version.removals);
        let removed: Vec<_> = all().filter(told).cloned().collect();
        self.come_back(FRESH, &kept)?;
        self.nothing_else_comes_back(FRESH)?;
        let wanted: Vec<_> = removed.iter().map(|version| (version.name.clone(), version.id)).collect();
        let came = self.recover_many(FRESH, &wanted)?;
        match removed.iter().zip(came).find(|(_, (came, _))| came.is_ok()) {
            Some((version, _)) => Err(format!("version {:?} of {} came back", version.id, version.name)),
            None => Ok(()),
        }
    }

    fn nothing_else_comes_back(&mut self, machine: usize) -> Held {
        for (wanted, (came, path)) in names().zip(self.newest(machine)?) {
            if came.is_err() {
                self.counts.refused += 1;
                if path.exists() {
                    return Err("a file is there that was refused".to_owned());
                }
                continue;
            }
            self.counts.recovered += 1;
            let bytes = fs::read(&path).map_err(|error| format!("it is not there: {error}"))?;
            self.model.complaint(&wanted, &bytes, machine).map_or(Ok(()), Err)?;
        }
        Ok(())
    }
}
