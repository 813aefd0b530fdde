//! A line that moves while long work is under way: what is done, how fast, how long it still takes.

use super::notices::Notices;
use super::printable::Printable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use shard::ops::ProgressEvent;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often the line is drawn while nothing happens, so that the time does not stand still.
const TICK: Duration = Duration::from_millis(200);
/// How often the line is drawn at most, per second.
const DRAWS_PER_SECOND: u8 = 10;
/// A total is known: bar, bytes, rate, time left.
const MEASURED: &str = "{prefix} {bar:24} {percent:>3}%  {done}  {rate}  {left}";
/// No total is known, as when reading from a pipe: bytes, rate and time so far.
const OPEN: &str = "{prefix} {spinner} {done}  {rate}  {elapsed}";

/// How far a phase of the work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    /// What is being done: `reading`, `verifying`.
    phase: &'static str,
    bytes_done: u64,
    bytes_total: Option<u64>,
    /// Files, objects or shards done.
    items_done: u64,
    items_total: Option<u64>,
}

/// Shows events on standard error: the moving line only on a terminal, and neither for scripts nor when told to be
/// quiet. It may be fed from several threads.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    notices: Notices,
    /// The phases that have begun and not ended, the innermost last: that one is shown.
    steps: Mutex<Vec<Step>>,
}

impl Progress {
    /// On standard error.
    pub(crate) fn new(notices: Notices) -> Self {
        let target = match notices.shows_progress() {
            true => ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND),
            false => ProgressDrawTarget::hidden(),
        };
        Self::drawing_on(target, notices)
    }

    fn drawing_on(target: ProgressDrawTarget, notices: Notices) -> Self {
        let bar = ProgressBar::with_draw_target(None, target).with_style(style(OPEN));
        Self { bar, notices, steps: Mutex::new(Vec::new()) }
    }

    /// Shows one event.
    pub(crate) fn show(&self, event: ProgressEvent) {
        if let ProgressEvent::Warning(message) = event {
            return self.bar.suspend(|| self.notices.warning(&message));
        }
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            ProgressEvent::Begin { phase, total_bytes, total_items } => {
                let step =
                    Step { phase, bytes_done: 0, bytes_total: total_bytes, items_done: 0, items_total: total_items };
                steps.push(step);
                self.begin(&step);
            }
            ProgressEvent::Bytes(delta) => steps.iter_mut().for_each(|step| step.bytes_done += delta),
            ProgressEvent::Items(delta) => {
                if let Some(step) = steps.last_mut() {
                    step.items_done += delta;
                }
            }
            ProgressEvent::End => {
                steps.pop();
            }
            ProgressEvent::Warning(_) => {}
        }
        match steps.last() {
            Some(step) => self.step(step),
            None => self.bar.set_prefix(""),
        }
    }

    /// Takes the line away; what is printed next stands in its place.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// A phase begins: the line is drawn from now on, and rate and time left begin anew.
    fn begin(&self, step: &Step) {
        self.bar.reset();
        self.measure(step.bytes_total);
        if !self.bar.is_hidden() {
            self.bar.enable_steady_tick(TICK);
        }
    }

    fn measure(&self, bytes_total: Option<u64>) {
        match bytes_total {
            Some(total) => {
                self.bar.set_style(style(MEASURED));
                self.bar.set_length(total);
            }
            None => {
                self.bar.set_style(style(OPEN));
                self.bar.unset_length();
            }
        }
    }

    fn step(&self, step: &Step) {
        let prefix = describe(step);
        if self.bar.prefix() != prefix {
            self.bar.set_prefix(prefix);
        }
        if self.bar.length() != step.bytes_total {
            // An inner phase has ended, and the outer one measures something else.
            self.measure(step.bytes_total);
        }
        self.bar.set_position(step.bytes_done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// `verifying 3/20`, `reading 17`, or the phase alone when there is nothing to count.
fn describe(step: &Step) -> String {
    let phase = Printable(step.phase);
    match (step.items_done, step.items_total) {
        (done, Some(total)) => format!("{phase} {done}/{total}"),
        (0, None) => phase.to_string(),
        (done, None) => format!("{phase} {done}"),
    }
}

fn style(template: &str) -> ProgressStyle {
    use super::quantity::{ByteSize, Span};
    let plain = ProgressStyle::with_template(template).expect("the templates are constants that parse");
    plain
        .progress_chars("=> ")
        .with_key("done", |state: &ProgressState, out: &mut dyn Write| {
            let done = ByteSize(state.pos());
            let _ = match state.len() {
                Some(total) => write!(out, "{done} of {}", ByteSize(total)),
                None => write!(out, "{done}"),
            };
        })
        .with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
            // A float of bytes per second saturates when it becomes an integer.
            let _ = write!(out, "{}/s", ByteSize(state.per_sec() as u64));
        })
        .with_key("left", |state: &ProgressState, out: &mut dyn Write| {
            let _ = write!(out, "{} left", Span(state.eta()));
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::notices::Talk;
    use crate::cli::output::Reader;
    use std::io;
    use std::sync::{Arc, Mutex};

    /// A terminal that remembers what was drawn.
    #[derive(Debug, Clone, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl indicatif::TermLike for Screen {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().expect("no panic before").push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    const BEGIN: ProgressEvent =
        ProgressEvent::Begin { phase: "verifying", total_bytes: Some(2 << 20), total_items: Some(20) };

    #[test]
    fn the_line_says_phase_count_bytes_rate_and_time_left() {
        let screen = Screen::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), 255);
        let progress = Progress::drawing_on(target, Notices::new(Reader::Person, Talk::Normal));
        for event in [BEGIN, ProgressEvent::Bytes(1 << 20), ProgressEvent::Items(3)] {
            progress.show(event);
        }
        progress.bar.force_draw();
        let drawn = screen.0.lock().expect("no panic before").clone();
        for part in ["verifying 3/20", "=>", "50%", "1.0 MiB of 2.0 MiB", "/s", "left"] {
            assert!(drawn.contains(part), "{part} is not in {drawn}");
        }
    }

    #[test]
    fn scripts_and_the_quiet_see_no_line() {
        for notices in [Notices::new(Reader::Script, Talk::Normal), Notices::new(Reader::Person, Talk::Quiet)] {
            assert!(!notices.shows_progress());
            assert!(Progress::new(notices).bar.is_hidden());
        }
    }

    #[test]
    fn a_phase_inside_another_is_shown_until_it_ends() {
        let progress = Progress::new(Notices::new(Reader::Person, Talk::Quiet));
        progress.show(BEGIN);
        progress.show(ProgressEvent::Bytes(7));
        assert_eq!((progress.bar.length(), progress.bar.position()), (Some(2 << 20), 7));
        progress.show(ProgressEvent::Begin { phase: "reading", total_bytes: None, total_items: None });
        progress.show(ProgressEvent::Bytes(5));
        assert_eq!((progress.bar.length(), progress.bar.position()), (None, 5));
        progress.show(ProgressEvent::Items(3));
        assert_eq!(progress.bar.prefix(), "reading 3");
        progress.show(ProgressEvent::End);
        assert_eq!((progress.bar.length(), progress.bar.position()), (Some(2 << 20), 12));
        assert_eq!(progress.bar.prefix(), "verifying 0/20");
        progress.show(ProgressEvent::End);
        progress.show(ProgressEvent::Bytes(1));
    }
}
