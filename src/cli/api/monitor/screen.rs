//! The terminal while something is drawn in place. It is as before on every way out: also after a panic or a signal.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Frame};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// A terminal that is drawn on.
pub struct Screen {
    terminal: DefaultTerminal,
    terminated: Arc<AtomicBool>,
    _restored: Restored,
}

/// Why drawing ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By a key.
    Asked,
    /// By a signal.
    Terminated,
}

/// Restores the terminal when it is dropped.
struct Restored;

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// If it is none.
    pub fn start() -> io::Result<Self> {
        let terminated = Arc::new(AtomicBool::new(false));
        // SIGHUP ends the process: the terminal is gone, and waiting for its keys would never return.
        for signal in [SIGTERM, SIGINT] {
            flag::register(signal, Arc::clone(&terminated))?;
        }
        // Before the terminal is changed, and so also when that fails half-way. A panic restores it before its message.
        let restored = Restored;
        let terminal = ratatui::try_init()?;
        Ok(Self { terminal, terminated, _restored: restored })
    }

    /// Draws what has changed.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }

    /// Waits for a key or a signal that ends it, at most so long.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn ending(&self, wait: Duration) -> io::Result<Option<Ending>> {
        if event::poll(wait)?
            && let Event::Key(key) = event::read()?
            && ends(key)
        {
            return Ok(Some(Ending::Asked));
        }
        Ok(self.terminated.load(Ordering::Relaxed).then_some(Ending::Terminated))
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn ends(key: KeyEvent) -> bool {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    let ends = match key.code {
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => true,
        KeyCode::Char('c' | 'C') => is_control,
        _ => false,
    };
    ends && key.kind == KeyEventKind::Press
}
