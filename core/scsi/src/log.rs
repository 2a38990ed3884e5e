//! Log pages (SPC-6 7.3): supported pages, temperature, start-stop cycle counter, general statistics and performance.

use crate::bytes::{Reader, Writer};

/// PAGE CODE of a log page.
pub mod page {
    /// Supported Log Pages.
    pub const SUPPORTED_PAGES: u8 = 0x00;
    /// Temperature.
    pub const TEMPERATURE: u8 = 0x0d;
    /// Start-Stop Cycle Counter.
    pub const START_STOP: u8 = 0x0e;
    /// General Statistics and Performance.
    pub const STATISTICS: u8 = 0x19;
    /// SUBPAGE CODE of "with subpages".
    pub const ALL_SUBPAGES: u8 = 0xff;
}

/// FORMAT AND LINKING of the control byte: an ASCII list, a binary list (SPC-6 table 372).
const ASCII_LIST: u8 = 0b01;
const BINARY_LIST: u8 = 0b11;

/// Writes a page header and what `body` appends. SPF is set when there is a subpage code.
fn emit_page(code: u8, subpage: u8, w: &mut Writer<'_>, body: impl FnOnce(&mut Writer<'_>)) {
    let start = w.position();
    w.u8(if subpage == 0 { code } else { 0x40 | code }).u8(subpage).u16(0);
    body(w);
    w.patch_length_u16(start + 2);
}

/// Checks a page header; returns the parameters.
fn page_body(bytes: &[u8], code: u8) -> Option<Reader<'_>> {
    let mut r = Reader::new(bytes);
    let head = (r.u8()? & 0x3f, r.u8()?);
    let length = r.u16()?;
    let body = r.take(usize::from(length))?;
    (head == (code, 0)).then(|| Reader::new(body))
}

/// Writes one log parameter.
fn emit_parameter(code: u16, control: u8, w: &mut Writer<'_>, value: &[u8]) {
    w.u16(code).u8(control).u8(value.len() as u8).bytes(value);
}

/// Reads the next log parameter: its code and value.
fn parameter<'a>(r: &mut Reader<'a>) -> Option<(u16, Reader<'a>)> {
    let code = r.u16()?;
    r.u8()?;
    let length = r.u8()?;
    Some((code, Reader::new(r.take(usize::from(length))?)))
}

/// Supported Log Pages (SPC-6 7.3.19): codes in ascending order.
pub fn emit_supported_pages(codes: &[u8], w: &mut Writer<'_>) {
    emit_page(page::SUPPORTED_PAGES, 0, w, |w| {
        w.bytes(codes);
    });
}

/// Supported Log Pages and Subpages (SPC-6 7.3.20): pairs in ascending order.
pub fn emit_supported_subpages(codes: &[(u8, u8)], w: &mut Writer<'_>) {
    emit_page(page::SUPPORTED_PAGES, page::ALL_SUBPAGES, w, |w| {
        for (code, subpage) in codes {
            w.u8(*code).u8(*subpage);
        }
    });
}

/// Temperature (SPC-6 7.3.21), in degrees Celsius; None is "not known" (FFh).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TemperaturePage {
    /// Parameter 0000h.
    pub current: Option<u8>,
    /// Parameter 0001h: the highest at which the device runs for good.
    pub reference: Option<u8>,
}

impl TemperaturePage {
    /// Writes the page.
    pub fn emit(&self, w: &mut Writer<'_>) {
        emit_page(page::TEMPERATURE, 0, w, |w| {
            emit_parameter(0, BINARY_LIST, w, &[0, self.current.unwrap_or(0xff)]);
            emit_parameter(1, BINARY_LIST, w, &[0, self.reference.unwrap_or(0xff)]);
        });
    }

    /// Reads the page; parameters that are not there are not known.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut r = page_body(bytes, page::TEMPERATURE)?;
        let mut page = Self::default();
        while let Some((code, mut value)) = parameter(&mut r) {
            let degrees = Some(value.u16()? as u8).filter(|d| *d != 0xff);
            match code {
                0 => page.current = degrees,
                1 => page.reference = degrees,
                _ => {}
            }
        }
        Some(page)
    }
}

/// Start-Stop Cycle Counter (SPC-6 7.3.18).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StartStopPage {
    /// Parameter 0001h: year and week of manufacture, as six ASCII digits, or spaces.
    pub manufactured: [u8; 6],
    /// Parameter 0002h: accounting date, likewise.
    pub accounting: [u8; 6],
    /// Parameter 0003h: start-stop cycles in the device's life.
    pub specified_cycles: u32,
    /// Parameter 0004h: cycles so far.
    pub accumulated_cycles: u32,
}

impl Default for StartStopPage {
    fn default() -> Self {
        Self { manufactured: [b' '; 6], accounting: [b' '; 6], specified_cycles: 0, accumulated_cycles: 0 }
    }
}

impl StartStopPage {
    /// Writes the page.
    pub fn emit(&self, w: &mut Writer<'_>) {
        emit_page(page::START_STOP, 0, w, |w| {
            emit_parameter(1, ASCII_LIST, w, &self.manufactured);
            emit_parameter(2, ASCII_LIST, w, &self.accounting);
            emit_parameter(3, BINARY_LIST, w, &self.specified_cycles.to_be_bytes());
            emit_parameter(4, BINARY_LIST, w, &self.accumulated_cycles.to_be_bytes());
        });
    }

    /// Reads the page.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut r = page_body(bytes, page::START_STOP)?;
        let mut page = Self::default();
        while let Some((code, mut value)) = parameter(&mut r) {
            match code {
                1 => page.manufactured = value.take(6)?.try_into().ok()?,
                2 => page.accounting = value.take(6)?.try_into().ok()?,
                3 => page.specified_cycles = value.u32()?,
                4 => page.accumulated_cycles = value.u32()?,
                _ => {}
            }
        }
        Some(page)
    }
}

/// General Statistics and Performance (SPC-6 7.3.9), with the idle time and time interval parameters.
///
/// Times are counts of [`StatisticsPage::INTERVAL_NANOSECONDS`], as the time interval parameter says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct StatisticsPage {
    /// NUMBER OF READ COMMANDS.
    pub read_commands: u64,
    /// NUMBER OF WRITE COMMANDS.
    pub write_commands: u64,
    /// NUMBER OF LOGICAL BLOCKS RECEIVED (written).
    pub blocks_received: u64,
    /// NUMBER OF LOGICAL BLOCKS TRANSMITTED (read).
    pub blocks_transmitted: u64,
    /// READ COMMAND PROCESSING INTERVALS.
    pub read_intervals: u64,
    /// WRITE COMMAND PROCESSING INTERVALS.
    pub write_intervals: u64,
    /// WEIGHTED NUMBER OF READ COMMANDS PLUS WRITE COMMANDS.
    pub weighted_commands: u64,
    /// WEIGHTED READ COMMAND PROCESSING PLUS WRITE COMMAND PROCESSING.
    pub weighted_intervals: u64,
    /// IDLE TIME INTERVALS.
    pub idle_intervals: u64,
}

impl StatisticsPage {
    /// One time interval: 1 ms (EXPONENT 3, INTEGER 1, in units of 10 to the minus EXPONENT seconds).
    pub const INTERVAL_NANOSECONDS: u64 = 1_000_000;
    const EXPONENT: u32 = 3;
    const INTEGER: u32 = 1;

    /// Writes the page.
    pub fn emit(&self, w: &mut Writer<'_>) {
        emit_page(page::STATISTICS, 0, w, |w| {
            w.u16(1).u8(BINARY_LIST).u8(64);
            w.u64(self.read_commands).u64(self.write_commands).u64(self.blocks_received).u64(self.blocks_transmitted);
            w.u64(self.read_intervals).u64(self.write_intervals);
            w.u64(self.weighted_commands).u64(self.weighted_intervals);
            emit_parameter(2, BINARY_LIST, w, &self.idle_intervals.to_be_bytes());
            w.u16(3).u8(BINARY_LIST).u8(8).u32(Self::EXPONENT).u32(Self::INTEGER);
        });
    }

    /// Reads the page. None also when its time interval is not the one used here.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut r = page_body(bytes, page::STATISTICS)?;
        let mut page = Self::default();
        while let Some((code, mut value)) = parameter(&mut r) {
            match code {
                1 => page.parse_commands(&mut value)?,
                2 => page.idle_intervals = value.u64()?,
                3 if (value.u32()?, value.u32()?) != (Self::EXPONENT, Self::INTEGER) => return None,
                _ => {}
            }
        }
        Some(page)
    }

    fn parse_commands(&mut self, r: &mut Reader<'_>) -> Option<()> {
        self.read_commands = r.u64()?;
        self.write_commands = r.u64()?;
        self.blocks_received = r.u64()?;
        self.blocks_transmitted = r.u64()?;
        self.read_intervals = r.u64()?;
        self.write_intervals = r.u64()?;
        self.weighted_commands = r.u64()?;
        self.weighted_intervals = r.u64()?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn emit(build: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut out = [0xee; 256];
        let mut w = Writer::new(&mut out);
        build(&mut w);
        let length = w.written();
        out[..length].to_vec()
    }

    #[test]
    fn page_bytes() {
        assert_eq!(emit(|w| emit_supported_pages(&[0, 0x0d], w)), [0, 0, 0, 2, 0, 0x0d]);
        assert_eq!(emit(|w| emit_supported_subpages(&[(0, 0), (0, 0xff)], w)), [0x40, 0xff, 0, 4, 0, 0, 0, 0xff]);
        let page = TemperaturePage { current: Some(30), reference: None };
        assert_eq!(emit(|w| page.emit(w)), [0x0d, 0, 0, 12, 0, 0, 3, 2, 0, 30, 0, 1, 3, 2, 0, 0xff]);
        let data = emit(|w| StartStopPage { accumulated_cycles: 7, ..StartStopPage::default() }.emit(w));
        assert_eq!(data.len(), 40);
        assert_eq!(data[..14], [0x0e, 0, 0, 36, 0, 1, 1, 6, 32, 32, 32, 32, 32, 32]);
        assert_eq!(data[32..], [0, 4, 3, 4, 0, 0, 0, 7]);
        let data = emit(|w| StatisticsPage { write_commands: 5, ..StatisticsPage::default() }.emit(w));
        assert_eq!((data.len(), &data[..8]), (96, &[0x19, 0, 0, 92, 0, 1, 3, 64][..]));
        assert_eq!((data[23], &data[84..]), (5, &[0, 3, 3, 8, 0, 0, 0, 3, 0, 0, 0, 1][..]));
    }

    proptest! {
        #[test]
        fn temperature_round_trips(current in any::<Option<u8>>(), reference in any::<Option<u8>>()) {
            let page = TemperaturePage { current: current.filter(|d| *d != 255), reference: reference.filter(|d| *d != 255) };
            prop_assert_eq!(TemperaturePage::parse(&emit(|w| page.emit(w))), Some(page));
        }

        #[test]
        fn start_stop_round_trips(dates in any::<[[u8; 6]; 2]>(), cycles in any::<[u32; 2]>()) {
            let [manufactured, accounting] = dates;
            let [specified_cycles, accumulated_cycles] = cycles;
            let page = StartStopPage { manufactured, accounting, specified_cycles, accumulated_cycles };
            prop_assert_eq!(StartStopPage::parse(&emit(|w| page.emit(w))), Some(page));
        }

        #[test]
        fn statistics_round_trip(v in any::<[u64; 9]>()) {
            let page = StatisticsPage {
                read_commands: v[0], write_commands: v[1], blocks_received: v[2], blocks_transmitted: v[3],
                read_intervals: v[4], write_intervals: v[5], weighted_commands: v[6], weighted_intervals: v[7],
                idle_intervals: v[8],
            };
            prop_assert_eq!(StatisticsPage::parse(&emit(|w| page.emit(w))), Some(page));
        }

        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (TemperaturePage::parse(&bytes), StartStopPage::parse(&bytes), StatisticsPage::parse(&bytes));
        }
    }
}
