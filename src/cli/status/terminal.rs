//! The page on a terminal, kept up to date.
//!
//! It has the alternate screen to itself and gives the terminal back as it was, however it ends. Each look is one write, from the
//! first place of the screen on and within what terminals call a synchronized update: nothing is wiped before it is written
//! anew, so nothing flickers. Keys are heard on a thread of their own, since the terminal is read by blocking; it ends
//! with the page.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crossterm::{
    QueueableCommand,
    cursor::{Hide, MoveTo, Show},
    event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    style::Print,
    terminal::{
        self, BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
        LeaveAlternateScreen,
    },
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::sleep,
};

use super::{CommandError, EVERY, Exit, Found, Worker, look, page};
use crate::status::{
    Line,
    words::{self, Asked},
};

/// How soon the thread that hears keys sees that nobody listens any more.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// Where a terminal does not tell its size.
const SIZE: (u16, u16) = (80, 24);

/// What whoever looks wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Quit,
    /// The size of the terminal is another.
    Redraw,
}

/// Shows the workers until q, Ctrl-C or a signal. What was seen last stays on the terminal.
pub(super) async fn watch(workers: &[Worker], coloured: bool) -> Result<Exit, CommandError> {
    let mut terminated = signal(SignalKind::terminate()).map_err(CommandError::io("listening for signals"))?;
    let screen = Screen::enter().map_err(CommandError::io("using the terminal"))?;
    let (told, mut wishes) = mpsc::channel(16);
    let keys = Keys::listen(told);
    let mut last: Option<Vec<Found>> = None;
    let mut asking = Box::pin(asked_after(Duration::ZERO, workers));
    loop {
        tokio::select! {
            wish = wishes.recv() => match wish {
                Some(Wish::Redraw) => draw(last.as_deref(), coloured)?,
                // Nobody hears keys any more: the terminal has gone.
                Some(Wish::Quit) | None => break,
            },
            _ = terminated.recv() => break,
            found = &mut asking => {
                last = Some(found);
                draw(last.as_deref(), coloured)?;
                asking = Box::pin(asked_after(EVERY, workers));
            }
        }
    }
    drop((keys, screen));
    if let Some(last) = last {
        // Whoever closed the terminal does not miss it.
        let _gone = io::stdout().lock().write_all(page(&last, coloured).as_bytes()).is_err();
    }
    Ok(Exit::Done)
}

async fn asked_after(pause: Duration, workers: &[Worker]) -> Vec<Found> {
    sleep(pause).await;
    look(workers).await
}

fn draw(found: Option<&[Found]>, coloured: bool) -> Result<(), CommandError> {
    let asked: Vec<Asked> = found.into_iter().flatten().map(|found| found.asked.clone()).collect();
    let (columns, rows) = terminal::size().unwrap_or(SIZE);
    let drawn = frame(&words::told(&asked), columns.into(), rows.into(), coloured);
    let written = drawn.and_then(|frame| {
        let mut output = io::stdout().lock();
        output.write_all(&frame)?;
        output.flush()
    });
    written.map_err(CommandError::io("writing to the terminal"))
}

/// One page for a screen of this size: as much as fits, and below it how to leave.
fn frame(lines: &[Line], columns: usize, rows: usize, coloured: bool) -> io::Result<Vec<u8>> {
    let lines: Vec<String> = lines.iter().flat_map(|line| line.painted(Some(columns), coloured)).collect();
    let room = rows.saturating_sub(1);
    let foot = match lines.len().saturating_sub(room) {
        0 => format!("asked every {} s; q ends", EVERY.as_secs()),
        // One of those that fit gives its place to this sentence only where there is a place at all.
        hidden => format!("{hidden} more lines: make the window larger, or use --once; q ends"),
    };
    let foot: String = foot.chars().take(columns).collect();
    let mut frame = Vec::new();
    frame.queue(BeginSynchronizedUpdate)?.queue(MoveTo(0, 0))?;
    for line in lines.iter().take(room) {
        frame.queue(Print(line))?.queue(Clear(ClearType::UntilNewLine))?.queue(Print("\r\n"))?;
    }
    // No line end after the last row: it would move the page up.
    frame.queue(Clear(ClearType::FromCursorDown))?;
    let last = u16::try_from(rows.saturating_sub(1)).unwrap_or(u16::MAX);
    frame.queue(MoveTo(0, last))?.queue(Print(foot))?.queue(Clear(ClearType::UntilNewLine))?;
    frame.queue(EndSynchronizedUpdate)?;
    Ok(frame)
}

/// The terminal, as long as the page is on it.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        // From here on it is given back.
        let screen = Self;
        let mut output = io::stdout().lock();
        output.queue(EnterAlternateScreen)?.queue(Hide)?.queue(Clear(ClearType::All))?;
        output.flush()?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut output = io::stdout().lock();
        let given_back = output
            .queue(Show)
            .and_then(|output| output.queue(LeaveAlternateScreen))
            .and_then(|output| output.flush())
            .and_then(|()| terminal::disable_raw_mode());
        // There is no terminal left to be mended.
        let _gone = given_back.is_err();
    }
}

/// Hears keys on a thread of its own, until it is dropped.
struct Keys {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keys {
    fn listen(told: mpsc::Sender<Wish>) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let asked_to_end = end.clone();
        let thread = std::thread::spawn(move || {
            while !asked_to_end.load(Ordering::Relaxed) {
                let wish = match event::poll(KEY_WAIT) {
                    Ok(false) => None,
                    Ok(true) => match event::read() {
                        Ok(event) => wish(&event),
                        Err(_) => return,
                    },
                    Err(_) => return,
                };
                if let Some(wish) = wish
                    && told.blocking_send(wish).is_err()
                {
                    return;
                }
            }
        });
        Self { end, thread: Some(thread) }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // Or it would still read what is typed for whoever comes next. It is waited for no longer than a look at the keys takes.
        let _panicked = self.thread.take().is_some_and(|thread| thread.join().is_err());
    }
}

/// What an event stands for.
fn wish(event: &Event) -> Option<Wish> {
    match event {
        Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) => match code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Wish::Quit),
            // In raw mode it is a key and no signal.
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
            _ => None,
        },
        Event::Resize(..) => Some(Wish::Redraw),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_escape_and_control_c_end_the_page() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        for (event, expected) in [
            (key(KeyCode::Char('q'), KeyModifiers::NONE), Some(Wish::Quit)),
            (key(KeyCode::Esc, KeyModifiers::NONE), Some(Wish::Quit)),
            (key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Wish::Quit)),
            (key(KeyCode::Char('c'), KeyModifiers::NONE), None),
            (Event::Resize(1, 1), Some(Wish::Redraw)),
        ] {
            assert_eq!(wish(&event), expected, "{event:?}");
        }
    }

    #[test]
    fn a_page_fits_its_screen_and_wipes_nothing_before_it_is_written_anew() {
        let asked: Vec<Asked> =
            (0..9).map(|number| Asked { admin: format!("http://h{number}"), answer: Err("no".into()) }).collect();
        let lines = words::told(&asked);
        for (columns, rows, is_cut) in [(80, 100, false), (30, 10, true), (5, 1, true)] {
            let frame = String::from_utf8(frame(&lines, columns, rows, false).unwrap()).unwrap();
            assert!(frame.matches("\r\n").count() < rows, "{frame:?}");
            assert_eq!(rows > 1 && frame.contains("more lines"), is_cut && rows > 1, "{frame:?}");
            assert!(!frame.contains("\u{1b}[2J"), "the whole screen is not cleared: {frame:?}");
            assert!(frame.starts_with("\u{1b}[?2026h") && frame.ends_with("\u{1b}[?2026l"), "{frame:?}");
        }
    }
}
