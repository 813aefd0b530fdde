//! The same by one thread in one map: what each answer must have been.

use super::steps::{Answer, How, Job, Key, Step};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A job that was done: the numbers drawn before, during and after it, and what its steps gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) begun: i64,
    /// Those that the vault drew for it, as the time: the last is that of its transaction.
    pub(super) drawn: Vec<i64>,
    pub(super) ended: i64,
    pub(super) job: Job,
    pub(super) answers: Vec<Answer>,
}

/// What was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) changes: usize,
    pub(super) undone: usize,
    pub(super) questions: usize,
    /// How many states a question may have seen, at most.
    pub(super) widest: usize,
}

/// What should be there: values, and when they expire; contents, by their numbers.
#[derive(Debug, Clone, Default)]
struct Model {
    entries: BTreeMap<Key, (i64, Option<i64>)>,
    contents: BTreeSet<u8>,
}

impl Model {
    fn get(&self, key: &Key, now: i64) -> Option<i64> {
        self.entries.get(key).filter(|(_, end)| end.is_none_or(|end| end > now)).map(|(value, _)| *value)
    }

    fn living(&self, now: i64, is_wanted: impl Fn(&Key) -> bool) -> Vec<(Key, i64)> {
        let wanted = self.entries.keys().filter(|key| is_wanted(key));
        wanted.filter_map(|key| Some((key.clone(), self.get(key, now)?))).collect()
    }

    /// What a step gives that changes nothing.
    fn ask(&self, step: &Step, now: i64) -> Answer {
        let all = || self.living(now, |_| true);
        match step {
            Step::Get(key) => Answer::Value(self.get(key, now)),
            Step::GetOr(key, otherwise) => Answer::Value(self.get(key, now).or(Some(*otherwise))),
            Step::ContainsKey(key) => Answer::Truth(self.get(key, now).is_some()),
            Step::Len => Answer::Count(all().len() as u64),
            Step::IsEmpty => Answer::Truth(all().is_empty()),
            Step::Keys => Answer::Keys(all().into_iter().map(|(key, _)| key).collect()),
            Step::Values => Answer::Values(all().into_iter().map(|(_, value)| value).collect()),
            Step::Iter | Step::Export => Answer::Entries(all()),
            Step::Range(from, to) if from <= to => Answer::Entries(self.living(now, |key| (from..to).contains(&key))),
            Step::Range(from, _) => Answer::Entries(self.living(now, |key| key >= from)),
            Step::Prefix(group) => Answer::Entries(self.living(now, |(other, _)| other == group)),
            Step::KeysBeginning(group) => {
                let living = self.living(now, |(other, _)| other == group);
                Answer::Keys(living.into_iter().map(|(key, _)| key).collect())
            }
            Step::GetContent(number) => Answer::Truth(self.contents.contains(number)),
            other => unreachable!("{other:?} changes something"),
        }
    }

    fn put(&mut self, key: &Key, value: i64, end: Option<i64>) {
        self.entries.insert(key.clone(), (value, end));
    }

    fn take(&mut self, key: &Key, now: i64) -> Option<i64> {
        let value = self.get(key, now);
        self.entries.remove(key);
        value
    }

    fn put_all(&mut self, entries: &[(Key, i64)]) -> Answer {
        entries.iter().for_each(|(key, value)| self.put(key, *value, None));
        Answer::Count(entries.len() as u64)
    }

    /// What a step gives, and what is there after it.
    fn step(&mut self, step: &Step, now: i64) -> Answer {
        match step {
            Step::Put(key, value) => self.put(key, *value, None),
            Step::PutWithTtl(key, value, ttl) => self.put(key, *value, Some(now + *ttl as i64)),
            Step::Insert(key, value) => {
                let before = self.get(key, now);
                self.put(key, *value, None);
                return Answer::Value(before);
            }
            Step::GetOrInsertWith(key, value) => {
                if self.get(key, now).is_none() {
                    self.put(key, *value, None);
                }
                return Answer::Value(self.get(key, now));
            }
            Step::Remove(key) => return Answer::Truth(self.take(key, now).is_some()),
            Step::Pop(key) => return Answer::Value(self.take(key, now)),
            Step::PopFirst => {
                let first = self.living(now, |_| true).into_iter().next();
                if let Some((key, _)) = &first {
                    self.entries.remove(key);
                }
                return Answer::Entries(first.into_iter().collect());
            }
            Step::Increment(key, by) => {
                let before = self.get(key, now).and(self.entries.get(key)).copied();
                let (value, end) = before.unwrap_or((0, None));
                self.put(key, value + by, end);
                return Answer::Value(Some(value + by));
            }
            Step::Extend(entries) => return self.put_all(entries),
            Step::Import { entries, is_whole: true } => {
                let distinct: BTreeMap<_, _> = entries.iter().cloned().collect();
                return self.put_all(&distinct.into_iter().collect::<Vec<_>>());
            }
            Step::Import { is_whole: false, .. } => return Answer::Refused,
            Step::Clear => {
                let count = self.living(now, |_| true).len();
                self.entries.clear();
                return Answer::Count(count as u64);
            }
            Step::CleanupExpired => {
                let before = self.entries.len();
                self.entries.retain(|_, (_, end)| end.is_none_or(|end| end > now));
                return Answer::Count((before - self.entries.len()) as u64);
            }
            Step::PutContent(number) => drop(self.contents.insert(*number)),
            Step::ChangeKey => return Answer::Count((self.entries.len() + self.contents.len()) as u64),
            question => return self.ask(question, now),
        }
        Answer::Done
    }
}

impl Done {
    fn number(&self) -> i64 {
        self.drawn.last().copied().unwrap_or(self.begun)
    }

    /// What is looked up first and found is not put in: no more than one time was asked for.
    fn settled(mut self) -> Self {
        if let (How::Direct, [Step::GetOrInsertWith(key, _)], [_]) =
            (self.job.how, self.job.steps.as_slice(), self.drawn.as_slice())
        {
            self.job.steps = vec![Step::Get(key.clone())];
        }
        self
    }

    fn is_change(&self) -> bool {
        self.job.how != How::Direct || self.job.steps.iter().any(Step::is_change)
    }
}

/// Holds everything that was done against the map, in the order of the numbers; says where an answer is another.
pub(super) fn replay(log: Vec<Done>) -> Result<Tally, String> {
    every_number_once(&log)?;
    let (mut changes, questions): (Vec<Done>, Vec<Done>) =
        log.into_iter().map(Done::settled).partition(Done::is_change);
    changes.sort_by_key(Done::number);
    let mut open = Questions::new(&changes, questions);
    let mut tally = Tally { changes: changes.len(), questions: open.count, widest: open.widest, ..Tally::default() };
    let mut model = Model::default();
    for (state, change) in changes.iter().enumerate() {
        open.ask(&model, state)?;
        let mut after = model.clone();
        let answers: Vec<Answer> = change.job.steps.iter().map(|step| after.step(step, change.number())).collect();
        if answers != change.answers {
            return Err(format!("{change:?}\nshould have given {answers:?}\nafter {model:?}"));
        }
        if change.job.how == How::Undone {
            tally.undone += 1;
        } else {
            model = after;
        }
    }
    open.ask(&model, changes.len())?;
    Ok(tally)
}

/// Nothing was done that nobody tells of, and nothing is told twice.
fn every_number_once(log: &[Done]) -> Result<(), String> {
    let mut numbers: Vec<i64> =
        log.iter().flat_map(|done| done.drawn.iter().copied().chain([done.begun, done.ended])).collect();
    numbers.sort_unstable();
    match numbers.iter().zip(1..).find(|(number, expected)| **number != *expected) {
        None => Ok(()),
        Some((number, expected)) => {
            Err(format!("the number {expected} is missing or told twice; the next is {number}"))
        }
    }
}

/// Questions that were asked while others made changes: each saw one of the states from the last change that had ended when it
/// began, to the last that was begun when it was answered.
struct Questions {
    /// By the first state that they may have seen.
    waiting: Vec<Vec<(Done, usize)>>,
    /// Those that have not found their answer yet, with the last state that they may have seen.
    open: Vec<(Done, usize)>,
    count: usize,
    widest: usize,
}

impl Questions {
    fn new(changes: &[Done], questions: Vec<Done>) -> Self {
        let mut ends: Vec<(i64, usize)> =
            changes.iter().zip(1..).map(|(change, after)| (change.ended, after)).collect();
        ends.sort_unstable();
        let mut last = 0;
        for (_, after) in &mut ends {
            last = last.max(*after);
            *after = last;
        }
        let (count, mut widest) = (questions.len(), 0);
        let mut waiting: Vec<Vec<_>> = changes.iter().map(|_| Vec::new()).chain([Vec::new()]).collect();
        for question in questions {
            let ended = ends.partition_point(|(ended, _)| *ended < question.begun);
            let first = ended.checked_sub(1).map_or(0, |last| ends[last].1);
            let last = changes.partition_point(|change| change.number() < question.number());
            widest = widest.max(last + 1 - first);
            waiting[first].push((question, last));
        }
        Self { waiting, open: Vec::new(), count, widest }
    }

    /// Asks those of this state that may have seen it.
    fn ask(&mut self, model: &Model, state: usize) -> Result<(), String> {
        self.open.append(&mut self.waiting[state]);
        let is_other = |(done, _): &(Done, usize)| !answers(model, done);
        self.open.retain(is_other);
        match self.open.iter().find(|(_, last)| *last <= state) {
            None => Ok(()),
            Some((done, _)) => {
                Err(format!("no state that it may have seen answers so:\n{done:?}\nthe last is {model:?}"))
            }
        }
    }
}

fn answers(model: &Model, done: &Done) -> bool {
    let asked = done.job.steps.iter().map(|step| model.ask(step, done.number()));
    asked.eq(done.answers.iter().cloned())
}

mod tests {
    use super::*;

    fn done(begun: i64, (number, ended): (i64, i64), step: Step, answer: Answer) -> Done {
        let job = Job { how: How::Direct, steps: vec![step] };
        Done { begun, drawn: vec![number], ended, job, answers: vec![answer] }
    }

    fn key() -> Key {
        (0, "a".to_owned())
    }

    fn increment(begun: i64, (number, ended): (i64, i64), sum: i64) -> Done {
        done(begun, (number, ended), Step::Increment(key(), 1), Answer::Value(Some(sum)))
    }

    fn get(begun: i64, (number, ended): (i64, i64), found: Option<i64>) -> Done {
        done(begun, (number, ended), Step::Get(key()), Answer::Value(found))
    }

    #[test]
    fn a_replay_lets_a_question_see_either_side_of_a_change_that_goes_on_meanwhile() {
        for found in [None, Some(1)] {
            let tally = replay(vec![increment(1, (3, 6), 1), get(2, (4, 5), found)]).expect("either is right");
            assert_eq!((tally.changes, tally.questions, tally.widest), (1, 1, 2));
        }
    }

    #[test]
    fn a_replay_complains_of_a_lost_change_a_stale_answer_and_a_look_ahead() {
        let lost = vec![increment(1, (3, 5), 1), increment(2, (4, 6), 1)];
        let stale = vec![increment(1, (2, 3), 1), get(4, (5, 6), None)];
        let ahead = vec![get(1, (2, 3), Some(1)), increment(4, (5, 6), 1)];
        for (wrong, why) in [(lost, "should have given"), (stale, "no state"), (ahead, "no state")] {
            assert!(replay(wrong).expect_err("it is wrong").contains(why));
        }
    }

    #[test]
    fn a_replay_complains_of_what_nobody_tells_of_or_somebody_twice() {
        assert!(replay(vec![increment(1, (2, 4), 1)]).expect_err("3 is missing").contains("number 3"));
        let twice = vec![increment(1, (2, 3), 1), increment(4, (2, 5), 2)];
        assert!(replay(twice).expect_err("2 is there twice").contains("number 3"));
    }

    #[test]
    fn a_replay_undoes_what_was_undone_and_still_holds_its_answers() {
        let undone = |sum| {
            let mut undone = increment(1, (2, 3), sum);
            undone.job.how = How::Undone;
            undone
        };
        assert_eq!(replay(vec![undone(1), get(4, (5, 6), None)]).expect("nothing stays").undone, 1);
        replay(vec![undone(1), get(4, (5, 6), Some(1))]).expect_err("it stayed");
        replay(vec![undone(2), get(4, (5, 6), None)]).expect_err("the answer was another");
    }
}
