//! Columns over time as SVG. Its colors are those of the style, by the names that the style gives to these numbers.

use std::error::Error;

use plotters::backend::SVGBackend;
use plotters::chart::ChartBuilder;
use plotters::drawing::IntoDrawingArea;
use plotters::element::Rectangle;
use plotters::style::{Color, IntoFont, RGBColor, TRANSPARENT};

const TEXT: RGBColor = RGBColor(0, 0, 1);
const LINES: RGBColor = RGBColor(0, 0, 2);
const PASSED: RGBColor = RGBColor(0, 0, 3);
const REFUSED: RGBColor = RGBColor(0, 0, 4);

const SIZE: (u32, u32) = (960, 260);

/// The part of a column's place that is free on each side.
const GAP: f64 = 0.14;

/// The most labels below the columns.
const LABELS_MAX: usize = 8;

/// A column: passed and refused requests of a time.
#[derive(Clone, Debug)]
pub struct Column {
    pub label: String,
    pub passed: u64,
    pub refused: u64,
}

/// The columns as SVG; empty if they can't be drawn.
pub fn columns(columns: &[Column]) -> String {
    let mut svg = String::new();
    match draw(&mut svg, columns) {
        Ok(()) => svg,
        Err(error) => {
            tracing::error!(%error, "drawing a chart failed");
            String::new()
        }
    }
}

fn draw(svg: &mut String, columns: &[Column]) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let most = columns.iter().map(|column| column.passed + column.refused).max();
    let most = most.unwrap_or_default().max(1) as f64;
    let count = columns.len().max(1);
    let mut chart = ChartBuilder::on(&area)
        .margin(6)
        .margin_right(16)
        .x_label_area_size(26)
        .y_label_area_size(58)
        .build_cartesian_2d(0.0..count as f64, 0.0..most * 1.08)?;
    let font = || ("sans-serif", 12).into_font().color(&TEXT);
    let step = count.div_ceil(LABELS_MAX).max(1);
    let label = |x: &f64| {
        let index = columns.iter().enumerate().step_by(step);
        let mut near = index.filter(|(index, _)| (*index as f64 - x).abs() < 0.01);
        near.next().map_or_else(String::new, |(_, column)| column.label.clone())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(LINES)
        .axis_style(LINES)
        .label_style(font())
        .x_labels(count + 1)
        .y_labels(5)
        .x_label_formatter(&label)
        .y_label_formatter(&|y| short(*y))
        .draw()?;
    for (index, column) in columns.iter().enumerate() {
        let (left, right) = (index as f64 + GAP, (index + 1) as f64 - GAP);
        let passed = column.passed as f64;
        let top = (column.passed + column.refused) as f64;
        let parts = [(0.0, passed, PASSED), (passed, top, REFUSED)];
        for (bottom, top, color) in parts.into_iter().filter(|(bottom, top, _)| bottom < top) {
            let column = Rectangle::new([(left, bottom), (right, top)], color.filled());
            chart.draw_series(std::iter::once(column))?;
        }
    }
    area.present()?;
    Ok(())
}

/// A number for an axis.
fn short(number: f64) -> String {
    let scaled = |by: f64, unit: &str| {
        let scaled = number / by;
        if scaled.fract() < 0.05 {
            format!("{scaled:.0}{unit}")
        } else {
            format!("{scaled:.1}{unit}")
        }
    };
    match number {
        ..1e3 if number.fract() == 0.0 => format!("{number:.0}"),
        ..1e3 => format!("{number:.1}"),
        ..1e6 => scaled(1e3, "k"),
        ..1e9 => scaled(1e6, "M"),
        _ => scaled(1e9, "G"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_a_rectangle_for_each_number_and_no_style() {
        let column = |passed, refused| Column { label: "01:00".to_owned(), passed, refused };
        let svg = columns(&[column(7, 0), column(3, 2), column(0, 0)]);
        assert!(svg.starts_with("<svg"), "{svg}");
        assert_eq!(svg.matches(r##"fill="#000003""##).count(), 2, "{svg}");
        assert_eq!(svg.matches(r##"fill="#000004""##).count(), 1, "{svg}");
        // A policy of the page forbids it.
        assert!(!svg.contains("style=") && svg.contains("01:00"), "{svg}");
        assert!(columns(&[]).starts_with("<svg"));
    }

    #[test]
    fn numbers_of_an_axis_are_short() {
        assert_eq!([0.0, 0.5, 20.0, 1_500.0, 2e6].map(short), ["0", "0.5", "20", "1.5k", "2M"]);
    }
}
