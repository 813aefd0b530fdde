//! The end of a schedule: nothing goes wrong any more, and what was promised is looked at.

use super::machine::Machine;
use super::model::Version;
use super::place::Presence;
use super::schedule::{Held, Mode, Schedule, names, with_causes};
use crate::world::backend_name;
use shard::ErrorKind;
use shard::format::FileName;
use shard::ops::recover::{RecoverOptions, RecoverWhat};
use shard::catalog::ObjectState;
use shard::ops::verify::{ObjectVerdict, VerifyMode, VerifyOptions, VerifyReport, verify};
use shard::store::{Draining, MissingCatalog, Store};
use std::fs;

/// The machine that has nothing but the key.
const FRESH: usize = 2;

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
            for version in by(self, machine) {
                self.comes_back(machine, &version)?;
            }
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
            let work = async |store: &mut Store| shard::ops::refresh::refresh(store, Default::default()).await.map(drop);
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
        let counts = |object: &&ObjectVerdict| object.state != ObjectState::Lost || state.whole_once.contains(&object.id);
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
        for version in versions {
            self.comes_back(machine, &version)?;
        }
        names().try_for_each(|wanted| self.newest_is_right(machine, &wanted))
    }

    fn comes_back(&mut self, machine: usize, version: &Version) -> Held {
        let what = RecoverWhat::Names(vec![version.name.clone()]);
        let id = version.id;
        let options = |output| RecoverOptions { version: id, ..RecoverOptions::new(what, output) };
        let (came, path) = self.recover((machine, None), options)?;
        let said = format!("version {:?} of {} on machine {machine}", version.id, version.name);
        match came {
            Some(Ok(())) if fs::read(&path).is_ok_and(|bytes| bytes == version.bytes) => {
                self.counts.recovered += 1;
                Ok(())
            }
            Some(Ok(())) => Err(format!("{said} came back with other bytes")),
            Some(Err(error)) => Err(format!("{said} is lost: {}", with_causes(&error))),
            None => Err("it died, and nobody killed it".to_owned()),
        }
    }

    fn newest_is_right(&mut self, machine: usize, wanted: &FileName) -> Held {
        let what = RecoverWhat::Names(vec![wanted.clone()]);
        let (came, path) = self.recover((machine, None), |output| RecoverOptions::new(what, output))?;
        let of_name = || self.model.versions.iter().filter(|version| version.name == *wanted);
        let must_be = of_name().any(Version::must_be_there);
        match came {
            Some(Err(error)) if error.kind == ErrorKind::NotFound && !must_be => Ok(()),
            Some(Ok(())) => {
                let bytes = fs::read(&path).map_err(|error| format!("it is not there: {error}"))?;
                let is_it = |version: &&Version| version.bytes == bytes;
                let newest = self.model.may_be_newest(wanted);
                let right = match self.is_one_line() {
                    true => newest.iter().any(|version| is_it(version)),
                    false => of_name().filter(|version| version.may_be_there()).any(|version| is_it(&version)),
                };
                let which = of_name().position(|version| version.bytes == bytes);
                if right { Ok(()) } else { Err(format!("{wanted} came back as its {which:?}th version on {machine}")) }
            }
            // What may have been removed or never whole may be known, and unreadable.
            Some(Err(error)) if must_be => Err(format!("{wanted} is lost on {machine}: {}", with_causes(&error))),
            _ => Ok(()),
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
                names().try_for_each(|wanted| self.nothing_else_comes_back(machine, &wanted))?;
            }
        }
        self.start_afresh()?;
        self.learn(FRESH)?;
        let readable = self.world.state().readable();
        for version in self.model.versions.clone() {
            let is_there = version.must_be_there() && version.objects.iter().all(|object| readable.contains(object));
            if is_there {
                self.comes_back(FRESH, &version)?;
            }
        }
        for wanted in names() {
            self.nothing_else_comes_back(FRESH, &wanted)?;
        }
        let told = |version: &&Version| {
            !version.removals.is_empty() && version.removals.iter().all(|object| readable.contains(object))
        };
        let removed: Vec<_> = self.model.versions.iter().filter(told).cloned().collect();
        removed.iter().try_for_each(|version| self.stays_removed(version))
    }

    fn nothing_else_comes_back(&mut self, machine: usize, wanted: &FileName) -> Held {
        let what = RecoverWhat::Names(vec![wanted.clone()]);
        let (came, path) = self.recover((machine, None), |output| RecoverOptions::new(what, output))?;
        if !matches!(came, Some(Ok(()))) {
            self.counts.refused += 1;
            return if path.exists() { Err("a file is there that was refused".to_owned()) } else { Ok(()) };
        }
        self.counts.recovered += 1;
        let bytes = fs::read(&path).map_err(|error| format!("it is not there: {error}"))?;
        self.model.complaint(wanted, &bytes, machine).map_or(Ok(()), Err)
    }

    fn stays_removed(&mut self, version: &Version) -> Held {
        let what = RecoverWhat::Names(vec![version.name.clone()]);
        let id = version.id;
        let options = |output| RecoverOptions { version: id, ..RecoverOptions::new(what, output) };
        match self.recover((FRESH, None), options)?.0 {
            Some(Ok(())) => Err(format!("version {id:?} of {} came back after its removal", version.name)),
            _ => Ok(()),
        }
    }
}
