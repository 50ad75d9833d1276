//! The table: what was found, beside the bare loop, the others, and what is wanted.

/// One line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    pub(crate) row: String,
    pub(crate) measure: &'static str,
    pub(crate) ours: Figure,
    /// The same of the bare loop, where it has such a thing.
    pub(crate) bare: Option<Figure>,
    /// The best of the others, as they were measured on another machine, and in brackets to the bare loop there.
    pub(crate) others: &'static str,
    pub(crate) wanted: &'static str,
}

/// A number, with as many decimals as tell something.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    pub(crate) decimals: usize,
}

impl Figure {
    pub(crate) fn whole(value: impl Into<f64>) -> Self {
        Self { value: value.into(), decimals: 0 }
    }

    pub(crate) fn count(value: usize) -> Self {
        Self { value: value as f64, decimals: 0 }
    }

    pub(crate) fn fine(value: f64) -> Self {
        Self { value, decimals: 3 }
    }

    fn text(self) -> String {
        format!("{:.*}", self.decimals, self.value)
    }
}

fn print(row: &str, measure: &str, [ours, bare, ratio, others, wanted]: [&str; 5]) {
    println!("{row:<12} {measure:<44} {ours:>9} {bare:>9} {ratio:>6}  {others:<28} {wanted}");
}

pub(crate) fn head() {
    print("row", "", ["ours", "bare loop", "ratio", "best of the others", "wanted"]);
}

impl Line {
    pub(crate) fn tell(&self) {
        let bare = self.bare.map_or_else(|| "-".to_owned(), Figure::text);
        let ratio = self.bare.map_or_else(|| "-".to_owned(), |bare| format!("{:.2}", self.ours.value / bare.value));
        print(&self.row, self.measure, [&self.ours.text(), &bare, &ratio, self.others, self.wanted]);
    }
}
