//! A line that moves while long work is under way: what is done, how fast, how long it still takes.

use super::notices::Notices;
use super::printable::Printable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;
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
pub(crate) struct Step<'a> {
    /// What is being done: `reading`, `verifying`.
    pub(crate) phase: &'a str,
    /// Bytes done in this phase.
    pub(crate) bytes_done: u64,
    /// Bytes to do, where that is known.
    pub(crate) bytes_total: Option<u64>,
    /// Files, objects or shards done.
    pub(crate) items_done: u64,
    /// Files, objects or shards to do, where that is known.
    pub(crate) items_total: Option<u64>,
}

/// What long work says while it is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// It has come this far.
    Step(Step<'a>),
    /// Something is not as it should be, but the work goes on.
    Warning(&'a str),
    /// Something worth knowing.
    Note(&'a str),
}

/// Shows events on standard error: the moving line only on a terminal, and neither for scripts nor when told to be
/// quiet. It may be fed from several threads.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    notices: Notices,
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
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self { bar, notices }
    }

    /// Shows one event.
    pub(crate) fn show(&self, event: Event<'_>) {
        match event {
            Event::Step(step) => self.step(step),
            Event::Warning(message) => self.bar.suspend(|| self.notices.warning(message)),
            Event::Note(message) => self.bar.suspend(|| self.notices.note(message)),
        }
    }

    /// Takes the line away; what is printed next stands in its place.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn step(&self, step: Step<'_>) {
        let prefix = describe(step);
        if self.bar.prefix() != prefix {
            self.bar.set_prefix(prefix);
        }
        if self.bar.length() != step.bytes_total {
            // Another phase measures something else: the rate and the time left begin anew.
            self.bar.reset();
            match step.bytes_total {
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
        self.bar.set_position(step.bytes_done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// `verifying 3/20`, `reading 17`, or the phase alone when there is nothing to count.
fn describe(step: Step<'_>) -> String {
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

    const STEP: Step<'_> = Step {
        phase: "verifying",
        bytes_done: 1 << 20,
        bytes_total: Some(2 << 20),
        items_done: 3,
        items_total: Some(20),
    };

    #[test]
    fn the_line_says_phase_count_bytes_rate_and_time_left() {
        let screen = Screen::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), 255);
        let progress = Progress::drawing_on(target, Notices::new(Reader::Person, Talk::Normal));
        progress.show(Event::Step(STEP));
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
    fn a_phase_without_a_total_follows_one_that_had_it() {
        let progress = Progress::new(Notices::new(Reader::Person, Talk::Quiet));
        progress.show(Event::Step(STEP));
        assert_eq!(progress.bar.length(), Some(2 << 20));
        progress.show(Event::Step(Step {
            phase: "reading\n",
            bytes_done: 5,
            bytes_total: None,
            items_total: None,
            ..STEP
        }));
        assert_eq!((progress.bar.length(), progress.bar.position()), (None, 5));
        assert_eq!(progress.bar.prefix(), "reading\\u{a} 3");
    }
}
