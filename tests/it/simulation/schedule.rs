//! One schedule: what is done and what goes wrong, drawn from a seed, and what must hold meanwhile and at the end.

use super::machine::{Blank, Ended, Machine, scratch};
use super::model::{Model, Sure};
use super::place::{Crash, Presence, World};
use super::weather::Weather;
use crate::soak::Dice;
use crate::world::{backend_name, geometry, name};
use shard::ErrorKind;
use shard::format::FileName;
use shard::id::{Geometry, RedundancyLevel};
use shard::ops::drain::{DrainOptions, drain};
use shard::ops::gc::{GcOptions, gc};
use shard::ops::put::{PutOptions, PutSource, put};
use shard::ops::rebuild::{RebuildOptions, rebuild};
use shard::ops::recover::{RecoverOptions, RecoverOutput, RecoverWhat, recover};
use shard::ops::refresh::{RefreshOptions, refresh};
use shard::ops::remove::{RemoveOptions, remove};
use shard::ops::repair::{RepairOptions, repair};
use shard::ops::verify::{VerifyMode, VerifyOptions, verify};
use shard::store::{Draining, MissingCatalog, Store};
use shard::stripe::Seal;
use std::fs;
use std::ops::AddAssign;
use std::path::PathBuf;
use tempfile::TempDir;

/// The names that files have, few enough to meet again.
const NAMES: usize = 3;
/// How long files are, most of them.
const LENGTHS: [usize; 8] = [0, 1, 7, 40, 300, 1000, 5000, 30_000];
/// Longer than a stripe of most geometries.
const LONG: usize = 800_000;

/// How much may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// No object ever loses more than parity makes up for.
    Within,
    /// Everything.
    Unlimited,
}

/// What was seen, over any number of schedules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) schedules: u64,
    pub(super) operations: u64,
    pub(super) failed: u64,
    pub(super) deaths: u64,
    pub(super) faults: u64,
    pub(super) harms: u64,
    pub(super) versions: u64,
    pub(super) recovered: u64,
    pub(super) refused: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.operations += other.operations;
        self.failed += other.failed;
        self.deaths += other.deaths;
        self.faults += other.faults;
        self.harms += other.harms;
        self.versions += other.versions;
        self.recovered += other.recovered;
        self.refused += other.refused;
    }
}

/// What a schedule came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) counts: Counts,
    /// Follows from everything that was asked of the places, in its order.
    pub(super) trace: u64,
    /// What was done, for people.
    pub(super) story: Vec<String>,
    pub(super) complaint: Option<String>,
}

/// A schedule under way.
pub(super) struct Schedule {
    pub(super) mode: Mode,
    pub(super) dice: Dice,
    pub(super) geometry: Geometry,
    pub(super) world: World,
    pub(super) machines: Vec<Machine>,
    pub(super) model: Model,
    pub(super) counts: Counts,
    pub(super) folder: TempDir,
    pub(super) blank: Blank,
    story: Vec<String>,
    /// The machine whose catalog is missing, if one is.
    pub(super) lost_catalogs: Vec<bool>,
    /// Something was put or removed by who may not have heard of all before it.
    apart: bool,
}

/// What must not have happened.
pub(super) type Held<T = ()> = Result<T, String>;

impl Schedule {
    /// Runs the schedule of a seed to its end.
    pub(super) fn run(mode: Mode, seed: u64) -> Outcome {
        Self::begin(mode, seed).conclude()
    }

    /// With more lost than may be: what is promised within limits cannot be kept, and that must be noticed.
    pub(super) fn run_beyond_limits(seed: u64) -> Outcome {
        let schedule = Self::begin(Mode::Within, seed);
        schedule.world.state().weather.is_unlimited = true;
        schedule.conclude()
    }

    fn conclude(mut self) -> Outcome {
        let schedule = &mut self;
        let held = schedule.live().and_then(|()| schedule.settle());
        let (trace, broken, faults) = {
            let state = schedule.world.state();
            (state.trace, state.violations.first().cloned(), state.faults)
        };
        let versions = schedule.model.versions.len() as u64;
        let counts = Counts { schedules: 1, faults, versions, ..schedule.counts };
        Outcome { counts, trace, story: self.story, complaint: broken.or(held.err()) }
    }

    fn begin(mode: Mode, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let (data, total) = [(2, 3), (3, 5), (2, 4), (1, 3)][dice.below(4)];
        let geometry = geometry(data, total);
        let blank = Blank::of(geometry, total + dice.below(3));
        let world = World::new(dice.next(), &blank.marks);
        let limits = Weather { is_unlimited: mode == Mode::Unlimited, total_shards: total, ..Weather::CALM };
        world.state().weather = limits.changed(&mut dice);
        let folder = scratch();
        let machine = |number: usize, seed| Machine::new(folder.path().join(format!("machine-{number}")), &blank, seed);
        let machines = vec![machine(0, dice.next()), machine(1, dice.next())];
        let (model, counts, story) = (Model::default(), Counts::default(), Vec::new());
        let (lost_catalogs, apart) = (vec![false; 2], false);
        Self { mode, dice, geometry, world, machines, model, counts, folder, blank, story, lost_catalogs, apart }
    }

    fn live(&mut self) -> Held {
        self.put(0, 0)?;
        for _ in 0..4 + self.dice.below(8) {
            for _ in 0..self.dice.below(3) {
                self.go_wrong();
            }
            let machine = usize::from(self.dice.below(5) == 0);
            let now = self.dice.next() as i64;
            self.machines[machine].set_clock(now);
            self.act(machine)?;
        }
        Ok(())
    }

    pub(super) fn tell(&mut self, what: impl Into<String>) {
        self.story.push(what.into());
    }

    /// What is done next, on a machine.
    fn act(&mut self, machine: usize) -> Held {
        if self.lost_catalogs[machine] {
            return self.rebuild(machine, None).map(drop);
        }
        let which = self.dice.below(NAMES);
        match self.dice.below(20) {
            0..6 => self.put(machine, which),
            6..9 => self.remove(machine, which),
            9..12 => self.recover_one(machine, which),
            12 | 13 => self.verify(machine),
            14 | 15 => self.repair(machine, true).map(drop),
            16 => self.collect_garbage(machine, true),
            17 => self.drain(machine),
            18 => self.refresh(machine),
            _ => {
                self.machines[machine].lose_catalog();
                self.lost_catalogs[machine] = true;
                self.model.removed_by.remove(&machine);
                self.tell(format!("machine {machine} loses its catalog"));
                Ok(())
            }
        }
    }

    /// In one of three operations the process dies on the way, often early.
    fn crash(&mut self) -> Option<Crash> {
        let (dies, most) = (self.dice.below(3) == 0, [8, 30, 90][self.dice.below(3)]);
        let crash = Crash { at_call: 1 + self.dice.below(most) as u64, before: self.dice.below(2) == 0 };
        dies.then_some(crash)
    }

    /// Runs an operation in a process of its own. `None` where it died.
    pub(super) fn operate<T>(
        &mut self,
        (machine, what): (usize, &str),
        (crash, missing): (Option<Crash>, MissingCatalog),
        work: impl AsyncFnOnce(&mut Store) -> shard::Result<T>,
    ) -> Held<Option<shard::Result<T>>> {
        let readable = self.world.state().readable();
        let ended = self.machines[machine].run(&self.world, (crash, missing), work);
        self.counts.operations += 1;
        let said = match &ended {
            Ended::ByItself(Ok(_)) => "done".to_owned(),
            Ended::ByItself(Err(error)) => format!("{:?}: {}", error.kind, with_causes(error)),
            Ended::Died => "died".to_owned(),
        };
        self.tell(format!("machine {machine} {what}: {said}"));
        if said.contains("in the middle") || matches!(&ended, Ended::ByItself(Err(e)) if e.kind == ErrorKind::Damaged) {
            return Err(format!("{what} panicked, or says that its own files are damaged: {said}"));
        }
        let takes_away = ["remove", "gc"].contains(&what);
        let mut state = self.world.state();
        let mut lost = readable.difference(&state.readable()).copied().collect::<Vec<_>>();
        // What a removal or a put that died left to be deleted, any operation may delete.
        lost.retain(|object| self.model.is_needed(*object));
        if !takes_away && state.lied.is_empty() && !lost.is_empty() {
            return Err(format!("{what} cost an object that could be read before: {lost:?}"));
        }
        state.forgive_lies();
        state.note_whole();
        drop(state);
        Ok(match ended {
            Ended::ByItself(outcome) => {
                self.counts.failed += u64::from(outcome.is_err());
                Some(outcome)
            }
            Ended::Died => {
                self.counts.deaths += 1;
                None
            }
        })
    }

    fn content(&mut self) -> Vec<u8> {
        let length = LENGTHS[self.dice.below(LENGTHS.len())];
        let length = if self.dice.below(60) == 0 { LONG } else { length };
        // Each content is another, the shortest ones too: by it a version is recognised.
        let mut bytes = self.dice.bytes(length);
        bytes.extend_from_slice(&(self.model.versions.len() as u32).to_le_bytes());
        bytes
    }

    /// One to three files at once, which share an object where they are several.
    fn put(&mut self, machine: usize, which: usize) -> Held {
        let count = if self.dice.below(4) == 0 { 2 + self.dice.below(2) } else { 1 };
        let (mut begun, mut sources) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (text, bytes) = (format!("folder/{}", (which + number) % NAMES), self.content());
            let path = self.folder.path().join(format!("source-{number}"));
            fs::write(&path, &bytes).expect("written");
            sources.push(match count {
                1 => PutSource::Reader { reader: Box::new(std::io::Cursor::new(bytes.clone())), name: name(&text) },
                _ => PutSource::File { path, name: Some(name(&text)) },
            });
            begun.push(self.model.begin_put(name(&text), bytes, machine));
        }
        let seals = [Seal::Key, Seal::Key, Seal::None, Seal::Recipient, Seal::Dispersed];
        let seal = Some(seals[self.dice.below(if self.geometry.data_shards() > 1 { 5 } else { 4 })]);
        let level = Some(RedundancyLevel::of(self.geometry));
        let options = PutOptions { sources, level, seal, ..PutOptions::default() };
        let crash = self.crash();
        let work = async |store: &mut Store| put(store, options).await;
        let put = self.operate((machine, "put"), (crash, MissingCatalog::Refuse), work)?;
        self.apart |= machine != 0 || self.model.versions.iter().any(|version| version.by != 0);
        for file in put.and_then(Result::ok).into_iter().flat_map(|report| report.files) {
            let is_it = |at: &usize| self.model.versions[*at].name == file.name;
            let at = begun.iter().copied().find(is_it).ok_or("a file was stored that nobody put")?;
            self.model.acknowledge_put(at, file.version, file.objects);
        }
        Ok(())
    }

    /// Removes the newest version of a name.
    fn remove(&mut self, machine: usize, which: usize) -> Held {
        self.learn(machine)?;
        let wanted = name(&format!("folder/{which}"));
        let options = RemoveOptions { names: vec![wanted.clone()], ..RemoveOptions::default() };
        let crash = self.crash();
        let work = async |store: &mut Store| remove(store, options).await;
        self.apart |= machine != 0;
        match self.operate((machine, "remove"), (crash, MissingCatalog::Refuse), work)? {
            Some(Ok(report)) => {
                let removals: Vec<_> = report.removals.iter().map(|removal| removal.id).collect();
                for file in report.files {
                    self.model.note_removals(file.version, &removals);
                    self.model.note_removal((&file.name, Some(file.version)), Sure::Yes, machine);
                }
            }
            Some(Err(error)) if error.kind == ErrorKind::NotFound => {}
            Some(Err(_)) | None => self.model.note_removal((&wanted, None), Sure::Perhaps, machine),
        }
        Ok(())
    }

    /// Which versions a machine knows, and by their bytes which ones they are.
    pub(super) fn learn(&mut self, machine: usize) -> Held {
        let work = async |store: &mut Store| store.catalog(|catalog| catalog.list_versions("", None, 1000)).await;
        let known = self.operate((machine, "list"), (None, MissingCatalog::Refuse), work)?;
        for version in known.and_then(Result::ok).into_iter().flatten() {
            if let Some(whole) = &version.whole {
                self.model.recognise(&version.name, version.id, &whole.blake3.0);
            }
        }
        Ok(())
    }

    /// Recovers the newest version of a name; whatever comes back must have been put there.
    fn recover_one(&mut self, machine: usize, which: usize) -> Held {
        let wanted = name(&format!("folder/{which}"));
        let changes = self.world.state().changes;
        let crash = self.crash();
        let options = |output| RecoverOptions::new(RecoverWhat::Names(vec![wanted.clone()]), output);
        let (came, path) = self.recover((machine, crash), options)?;
        if self.world.state().changes != changes {
            return Err("recover changed a place".to_owned());
        }
        match came {
            Some(Ok(())) => {
                self.counts.recovered += 1;
                let bytes = fs::read(&path).map_err(|error| format!("it is not there: {error}"))?;
                self.model.complaint(&wanted, &bytes, machine).map_or(Ok(()), Err)
            }
            Some(Err(_)) | None => {
                self.counts.refused += 1;
                // Who dies may have renamed the file already: then it is whole.
                match fs::read(&path) {
                    Ok(bytes) if came.is_none() => self.model.complaint(&wanted, &bytes, machine).map_or(Ok(()), Err),
                    Ok(_) => Err("a file is there, and its recovery is said to have failed".to_owned()),
                    Err(_) => Ok(()),
                }
            }
        }
    }

    /// Recovers one file to a fresh path.
    pub(super) fn recover(
        &mut self,
        (machine, crash): (usize, Option<Crash>),
        options: impl FnOnce(RecoverOutput) -> RecoverOptions,
    ) -> Held<(Option<shard::Result<()>>, PathBuf)> {
        let path = self.folder.path().join("recovered");
        let _ = fs::remove_file(&path);
        let options = options(RecoverOutput::Path(path.clone()));
        let work = async |store: &mut Store| recover(store, options).await.map(drop);
        Ok((self.operate((machine, "recover"), (crash, MissingCatalog::Refuse), work)?, path))
    }

    fn verify(&mut self, machine: usize) -> Held {
        let changes = self.world.state().changes;
        let mode = [VerifyMode::Full, VerifyMode::Quick, VerifyMode::Sample { percent: 50.0 }][self.dice.below(3)];
        let options = VerifyOptions { mode, ..VerifyOptions::default() };
        let crash = self.crash();
        let work = async |store: &mut Store| verify(store, options).await.map(drop);
        self.operate((machine, "verify"), (crash, MissingCatalog::Refuse), work)?;
        if self.world.state().changes == changes { Ok(()) } else { Err("verify changed a place".to_owned()) }
    }

    /// How many bytes were written, where it came to its end.
    pub(super) fn repair(&mut self, machine: usize, may_die: bool) -> Held<Option<u64>> {
        let crash = self.crash().filter(|_| may_die);
        let gone = |place: &super::place::Place| place.presence == Presence::Gone;
        let assume_lost: Vec<String> = {
            let state = self.world.state();
            (1..).zip(&state.places).filter(|(_, place)| gone(place)).map(|(number, _)| backend_name(number)).collect()
        };
        let options = RepairOptions { assume_lost, ..RepairOptions::default() };
        let work = async |store: &mut Store| repair(store, options).await;
        let repaired = self.operate((machine, "repair"), (crash, MissingCatalog::Refuse), work)?;
        repaired.and_then(Result::ok).map_or(Ok(None), |report| {
            self.tell(format!("  {} bytes written", report.bytes_written));
            Ok(Some(report.bytes_written))
        })
    }

    pub(super) fn collect_garbage(&mut self, machine: usize, may_die: bool) -> Held {
        let crash = self.crash().filter(|_| may_die);
        let work = async |store: &mut Store| gc(store, GcOptions::default()).await;
        let collected = self.operate((machine, "gc"), (crash, MissingCatalog::Refuse), work)?;
        for file in collected.and_then(Result::ok).into_iter().flat_map(|report| report.unfinished) {
            self.model.note_removal((&file.name, Some(file.version)), Sure::Perhaps, machine);
        }
        Ok(())
    }

    /// Empties a place, and lets it take shards again afterwards, or some time later.
    fn drain(&mut self, machine: usize) -> Held {
        let backend = backend_name(1 + self.dice.below(self.blank.marks.len()));
        let options = DrainOptions { backend: backend.clone(), ..DrainOptions::default() };
        let (crash, stays) = (self.crash(), self.dice.below(2) == 0);
        let work = async |store: &mut Store| drain(store, options).await.map(drop);
        self.operate((machine, "drain"), (crash, MissingCatalog::Refuse), work)?;
        if stays {
            return Ok(());
        }
        let work = async |store: &mut Store| store.set_draining(&backend, Draining::No);
        self.operate((machine, "undrain"), (None, MissingCatalog::Refuse), work).map(drop)
    }

    pub(super) fn refresh(&mut self, machine: usize) -> Held {
        let crash = self.crash();
        let work = async |store: &mut Store| refresh(store, RefreshOptions::default()).await.map(drop);
        self.operate((machine, "refresh"), (crash, MissingCatalog::Refuse), work).map(drop)
    }

    /// Makes a catalog anew from the places alone; says whether it came to that.
    pub(super) fn rebuild(&mut self, machine: usize, crash: Option<Crash>) -> Held<bool> {
        let work = async |store: &mut Store| rebuild(store, RebuildOptions::default()).await;
        let rebuilt = self.operate((machine, "rebuild"), (crash, MissingCatalog::Create), work)?;
        let rebuilt = rebuilt.and_then(Result::ok);
        // What is on a place that it could not read it does not know, and it says so.
        self.apart |= rebuilt.as_ref().is_some_and(|report| {
            !report.unreadable.is_empty() || report.backends.iter().any(|place| place.problem.is_some())
        });
        let is_done = rebuilt.is_some();
        self.lost_catalogs[machine] = !is_done;
        Ok(is_done)
    }

    /// Whether every put so far was made by the one machine, and it knew everything.
    pub(super) fn is_one_line(&self) -> bool {
        !self.apart
    }
}

pub(super) fn with_causes(error: &shard::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// A name as whoever puts it says it.
pub(super) fn names() -> impl Iterator<Item = FileName> {
    (0..NAMES).map(|which| name(&format!("folder/{which}")))
}
