//! The picture of the monitor: two lines above, and three lists below, as far as the terminal has room for them. Lists that
//! are no longer true are dim.

use std::time::Duration;

use jiff::Timestamp as WallTime;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use serde_json::Value;
use tokio::time::Instant;

use super::reading::{Panel, Reading};
use crate::cli::api::table::{Column, Urgency};
use crate::clock::{Clock, monotonic_now};
use crate::printable;

/// Refresh intervals without an answer after which a reading is old.
const INTERVALS_MAX: u32 = 2;

/// A reading is not old before, however short the interval is: it consists of several requests.
const FRESH_MIN: Duration = Duration::from_secs(1);

/// What is shown.
pub struct View {
    url: String,
    interval: Duration,
    clock: Clock,
    panels: Option<[Panel; 3]>,
    /// When the API has last answered, or the monitor has started.
    answered: Answered,
    /// Why the last reading failed.
    failed: Option<String>,
}

struct Answered {
    at: Instant,
    /// The time of day (UTC).
    time: String,
}

impl Answered {
    fn now(clock: &Clock) -> Self {
        let ms = i64::try_from(clock.now().timestamp().as_ms()).unwrap_or(i64::MAX);
        let time = WallTime::from_millisecond(ms).unwrap_or(WallTime::MAX);
        Self { at: monotonic_now(), time: time.strftime("%H:%M:%SZ").to_string() }
    }
}

impl View {
    /// Before the first reading.
    pub fn new(url: &str, interval: Duration, clock: Clock) -> Self {
        let url = printable::line(url).into_owned();
        let answered = Answered::now(&clock);
        Self { url, interval, clock, panels: None, answered, failed: None }
    }

    /// Takes a reading. One that failed leaves what is shown.
    pub fn take(&mut self, reading: Reading) {
        match reading.0 {
            Ok(panels) => {
                (self.panels, self.failed) = (Some(panels), None);
                self.answered = Answered::now(&self.clock);
            }
            Err(reason) => self.failed = Some(reason),
        }
    }

    /// Draws all of it.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let [head, state, below] =
            Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Min(0)])
                .areas(frame.area());
        let title = format!("tollgate {}  every {:?}  q quits", self.url, self.interval);
        frame.render_widget(Paragraph::new(Line::styled(title, bold)), head);
        frame.render_widget(Paragraph::new(self.state()), state);
        let Some(panels) = &self.panels else { return };
        let areas = Layout::vertical([
            Constraint::Fill(2),
            Constraint::Fill(1),
            Constraint::Length(height(&panels[2])),
        ])
        .areas::<3>(below);
        for (panel, area) in panels.iter().zip(areas) {
            draw_panel(panel, frame, area);
        }
        if self.is_old() {
            frame.buffer_mut().set_style(below, Style::new().add_modifier(Modifier::DIM));
        }
    }

    /// Whether what is shown may be wrong by now: a reading has failed, or takes too long.
    fn is_old(&self) -> bool {
        let max = self.interval.saturating_mul(INTERVALS_MAX).max(FRESH_MIN);
        self.failed.is_some() || max < self.answered.at.elapsed()
    }

    fn state(&self) -> Line<'_> {
        if !self.is_old() {
            return Line::raw(if self.panels.is_some() { "" } else { "reading" });
        }
        let Answered { at, time } = &self.answered;
        let mut text = format!("no answer since {time} ({} s)", at.elapsed().as_secs());
        if let Some(reason) = &self.failed {
            text.push_str(": ");
            text.push_str(reason);
        }
        Line::styled(text, Style::new().fg(Color::Red))
    }
}

/// Lines of a list with its title, its header and an empty line.
fn height(panel: &Panel) -> u16 {
    let rows = panel.items.as_ref().map_or(1, |items| items.len().max(1));
    u16::try_from(rows.min(6) + 3).unwrap_or(u16::MAX)
}

fn draw_panel(panel: &Panel, frame: &mut Frame<'_>, area: Rect) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let [title, table] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    frame.render_widget(Line::styled(panel.title, bold), title);
    let items = match &panel.items {
        Ok(items) if items.is_empty() => return frame.render_widget(Paragraph::new("none"), table),
        Ok(items) => items,
        Err(reason) => return frame.render_widget(Paragraph::new(reason.as_str()), table),
    };
    let header = panel.columns.iter().map(|column| column.name().to_uppercase());
    let rows = items.iter().map(|item| row(item, &panel.columns));
    let widths = panel.columns.iter().map(|column| Constraint::Length(width(column, items)));
    let table_widget = Table::new(rows, widths)
        .header(Row::new(header).style(Style::new().add_modifier(Modifier::DIM)))
        .column_spacing(2);
    frame.render_widget(table_widget, table);
}

fn row<'t>(item: &Value, columns: &[Column]) -> Row<'t> {
    let cells = columns.iter().map(|column| {
        let style = match column.urgency(item) {
            Some(Urgency::Critical) => Style::new().fg(Color::Red),
            Some(Urgency::Warning) => Style::new().fg(Color::Yellow),
            None => Style::new(),
        };
        Cell::from(column.plain(item)).style(style)
    });
    Row::new(cells.collect::<Vec<_>>())
}

/// As wide as the longest value.
fn width(column: &Column, items: &[Value]) -> u16 {
    let values = items.iter().map(|item| column.plain(item).chars().count());
    let widest = values.max().unwrap_or_default().max(column.name().len());
    u16::try_from(widest).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;
    use tokio::time::advance;

    use super::*;
    use crate::clock::Timestamp;

    fn reading() -> Reading {
        let panel = |title, items| {
            let columns = vec![
                Column::text("caller", "/caller"),
                Column::number("used", "/used"),
                Column::percent("percent", "/percent"),
            ];
            Panel { title, columns, items }
        };
        let limits =
            json!([{ "caller": "ann", "used": 19, "percent": 95.0 }, { "caller": "b\u{1b}[2J" }]);
        let limits = limits.as_array().unwrap().clone();
        Reading(Ok([
            panel("Limits", Ok(limits)),
            panel("Refusals", Ok(Vec::new())),
            panel("Providers", Err("usage is not counted".to_owned())),
        ]))
    }

    fn terminal(view: &View, width: u16, height: u16) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        terminal
    }

    fn drawn(view: &View, width: u16, height: u16) -> String {
        terminal(view, width, height).backend().to_string()
    }

    /// At 12:03:04.
    fn view() -> View {
        let clock = Clock::runtime(Timestamp::from_ms(1_780_056_184_000));
        View::new("http://a", Duration::from_secs(2), clock)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_is_shown_and_stays_while_the_next_ones_fail() {
        let mut view = view();
        assert!(drawn(&view, 60, 20).contains("reading"));
        view.take(reading());
        let picture = drawn(&view, 60, 20);
        for text in ["tollgate http://a  every 2s  q quits", "ann", "95.0", "none", "not counted"] {
            assert!(picture.contains(text), "{text}: {picture}");
        }
        assert!(!picture.contains('\u{1b}'), "{picture}");
        advance(Duration::from_secs(2)).await;
        view.take(Reading(Err("refused".to_owned())));
        let picture = drawn(&view, 60, 20);
        assert!(picture.contains("no answer since 12:03:04Z (2 s): refused"), "{picture}");
        assert!(picture.contains("ann"), "{picture}");
        view.take(reading());
        assert!(!drawn(&view, 60, 20).contains("no answer"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_is_old_after_two_intervals_without_an_answer() {
        let mut view = view();
        advance(Duration::from_secs(5)).await;
        assert!(drawn(&view, 60, 20).contains("no answer since 12:03:04Z (5 s)"));
        view.take(reading());
        let is_dim = |view: &View| {
            let terminal = terminal(view, 60, 20);
            let row = terminal.backend().buffer().content().chunks(60).nth(4);
            row.unwrap()[0].modifier.contains(Modifier::DIM)
        };
        advance(Duration::from_secs(4)).await;
        assert!(!drawn(&view, 60, 20).contains("no answer") && !is_dim(&view));
        advance(Duration::from_millis(1)).await;
        let picture = drawn(&view, 60, 20);
        assert!(picture.contains("no answer since 12:03:09Z (4 s)"), "{picture}");
        assert!(picture.contains("ann") && is_dim(&view), "{picture}");
        view.take(reading());
        assert!(!drawn(&view, 60, 20).contains("no answer") && !is_dim(&view));
        view.interval = Duration::from_millis(10);
        advance(Duration::from_secs(1)).await;
        assert!(!view.is_old());
    }

    #[test]
    fn a_terminal_of_any_size_is_drawn_on() {
        let mut view = view();
        view.take(reading());
        for width in 0..70 {
            for height in 0..24 {
                terminal(&view, width, height);
            }
        }
    }
}
