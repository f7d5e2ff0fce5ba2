//! Forecasts: when a limit will be used up, from what was spent of it.
//!
//! The method is simple on purpose, so that an operator can follow it with a pocket calculator (`config/forecast.md`):
//!
//! - **Level**: the mean of the last season (7 days, or 24 hours).
//! - **Season**: for each weekday (or hour of the day), the median of its share in the seasons of the last 8. From 3 seasons on.
//! - **Trend**: the Mann-Kendall test over the last 4 seasons, at 5 %. If it finds one, the Theil-Sen slope, damped.
//! - **Interval**: 80 %, from the errors that the same method would have made over the last 4 seasons.

mod history;
mod limits;
mod outlook;
#[cfg(test)]
mod testing;
mod trend;

pub use history::{Forecast, History, Season};
pub use limits::{Expected, LimitForecast, NoForecast, SpentPast};
pub use outlook::{Comeback, Outlook, Standing};
pub use trend::Trend;
