//! LOG SENSE (SPC-6 6.9): supported pages, temperature, start-stop cycles, general statistics.

use scst_scsi::SenseData;
use scst_scsi::bytes::Writer;
use scst_scsi::log::{
    StartStopPage, StatisticsPage, TemperaturePage, emit_supported_pages, emit_supported_subpages, page,
};

use crate::command::LogSense;

/// PC of cumulative current values.
const CUMULATIVE: u8 = 0b01;

/// Pages without subpages.
const PAGES: [u8; 4] = [page::SUPPORTED_PAGES, page::TEMPERATURE, page::START_STOP, page::STATISTICS];
/// Pages with subpages.
const SUBPAGES: [(u8, u8); 5] = [
    (page::SUPPORTED_PAGES, 0),
    (page::SUPPORTED_PAGES, page::ALL_SUBPAGES),
    (page::TEMPERATURE, 0),
    (page::START_STOP, 0),
    (page::STATISTICS, 0),
];

/// What the log pages tell. The handler counts; a virtual disk has no temperature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogData {
    /// Temperature.
    pub temperature: TemperaturePage,
    /// Start-stop cycles.
    pub start_stop: StartStopPage,
    /// Commands and blocks.
    pub statistics: StatisticsPage,
}

/// Answers LOG SENSE. Returns the bytes to send.
///
/// # Errors
/// INVALID FIELD IN CDB at PAGE CODE, SUBPAGE CODE, PC (only cumulative values are kept) or PARAMETER POINTER (one
/// past the last parameter).
pub fn sense(data: &LogData, command: &LogSense, buf: &mut [u8]) -> Result<usize, SenseData> {
    let known = |page: &(u8, u8)| *page == (command.page, command.subpage);
    if !PAGES.contains(&command.page) {
        return Err(SenseData::invalid_field_in_cdb(2, Some(5)));
    }
    if !SUBPAGES.iter().any(known) {
        return Err(SenseData::invalid_field_in_cdb(3, None));
    }
    // The lists of pages have no parameters, and PC means nothing to them.
    if command.page != page::SUPPORTED_PAGES && command.control != CUMULATIVE {
        return Err(SenseData::invalid_field_in_cdb(2, Some(7)));
    }
    let mut out = Writer::new(buf);
    match (command.page, command.subpage) {
        (page::SUPPORTED_PAGES, 0) => emit_supported_pages(&PAGES, &mut out),
        (page::SUPPORTED_PAGES, _) => emit_supported_subpages(&SUBPAGES, &mut out),
        (page::TEMPERATURE, _) => data.temperature.emit(&mut out),
        (page::START_STOP, _) => data.start_stop.emit(&mut out),
        _ => data.statistics.emit(&mut out),
    }
    let length = out.written();
    let length = from_parameter(command.pointer, &mut buf[..length])?;
    Ok(length.min(usize::from(command.allocation)))
}

/// Takes the parameters before `pointer` out of a page (SPC-6 6.9.1: parameters are returned in ascending order,
/// starting with the one that the PARAMETER POINTER names or the next); returns the new length of the page.
fn from_parameter(pointer: u16, page: &mut [u8]) -> Result<usize, SenseData> {
    const HEADER: usize = 4;
    if pointer == 0 || page.len() < HEADER {
        return Ok(page.len());
    }
    let is_list = page[0] & 0x3f == page::SUPPORTED_PAGES;
    let mut at = HEADER;
    while !is_list && at + HEADER <= page.len() {
        if u16::from_be_bytes([page[at], page[at + 1]]) >= pointer {
            page.copy_within(at.., HEADER);
            let length = page.len() - (at - HEADER);
            let [high, low] = ((length - HEADER) as u16).to_be_bytes();
            (page[2], page[3]) = (high, low);
            return Ok(length);
        }
        at += HEADER + usize::from(page[at + 3]);
    }
    Err(SenseData::invalid_field_in_cdb(5, None))
}

/// A buffer for [`sense`] must have room for the whole page even when the allocation length is small: the longest page.
pub const MAX_LOG_PAGE: usize = 4 + 68 + 12 + 12;

#[cfg(test)]
mod tests {
    use super::*;
    use scst_scsi::bytes::Writer;

    fn get(data: &LogData, page: u8, subpage: u8, control: u8, pointer: u16) -> Result<Vec<u8>, SenseData> {
        let mut buf = [0xee; MAX_LOG_PAGE];
        let command = LogSense { control, page, subpage, pointer, allocation: 1000 };
        sense(data, &command, &mut buf).map(|n| buf[..n].to_vec())
    }

    fn statistics() -> LogData {
        let statistics = StatisticsPage {
            read_commands: 1,
            write_commands: 2,
            blocks_received: 3,
            blocks_transmitted: 4,
            ..StatisticsPage::default()
        };
        LogData { statistics, ..LogData::default() }
    }

    #[test]
    fn lists_of_pages() {
        let data = LogData::default();
        assert_eq!(get(&data, 0, 0, 1, 0).unwrap(), [0, 0, 0, 4, 0x00, 0x0d, 0x0e, 0x19]);
        assert_eq!(
            get(&data, 0, 0xff, 0, 0).unwrap(),
            [0x40, 0xff, 0, 10, 0x00, 0x00, 0x00, 0xff, 0x0d, 0x00, 0x0e, 0x00, 0x19, 0x00]
        );
    }

    #[test]
    fn an_unknown_temperature_is_ff() {
        let want = [0x0d, 0, 0, 12, 0, 0, 0x03, 2, 0, 0xff, 0, 1, 0x03, 2, 0, 0xff];
        assert_eq!(get(&LogData::default(), 0x0d, 0, 1, 0).unwrap(), want);
    }

    #[test]
    fn statistics_count_both_directions() {
        let data = get(&statistics(), 0x19, 0, 1, 0).unwrap();
        assert_eq!(data.len(), MAX_LOG_PAGE);
        assert_eq!(data[..8], [0x19, 0, 0, 92, 0, 1, 0x03, 0x40]);
        let field = |at: usize| u64::from_be_bytes(data[at..at + 8].try_into().unwrap());
        assert_eq!([field(8), field(16), field(24), field(32)], [1, 2, 3, 4]);
    }

    #[test]
    fn every_page_in_the_list_is_there() {
        for (page, subpage) in SUBPAGES {
            let data = get(&statistics(), page, subpage, 1, 0).unwrap();
            assert_eq!(usize::from(u16::from_be_bytes([data[2], data[3]])) + 4, data.len());
        }
    }

    #[test]
    fn the_parameter_pointer_skips() {
        let data = get(&statistics(), 0x19, 0, 1, 2).unwrap();
        assert_eq!(data[..8], [0x19, 0, 0, 24, 0, 2, 0x03, 8]);
        let data = get(&statistics(), 0x19, 0, 1, 3).unwrap();
        assert_eq!((&data[..8], data.len()), (&[0x19, 0, 0, 12, 0, 3, 0x03, 8][..], 16));
        let past = Err(SenseData::invalid_field_in_cdb(5, None));
        assert_eq!(get(&statistics(), 0x19, 0, 1, 4), past);
        assert_eq!(get(&statistics(), 0x00, 0, 1, 1), past);
    }

    #[test]
    fn what_is_not_there_is_pointed_at() {
        let error = |page, subpage, control| get(&LogData::default(), page, subpage, control, 0).unwrap_err();
        assert_eq!(error(0x2f, 0, 1), SenseData::invalid_field_in_cdb(2, Some(5)));
        assert_eq!(error(0x0d, 1, 1), SenseData::invalid_field_in_cdb(3, None));
        assert_eq!(error(0x0d, 0, 0), SenseData::invalid_field_in_cdb(2, Some(7)));
    }

    #[test]
    fn the_longest_page_fits() {
        let mut buf = [0; 256];
        let mut out = Writer::new(&mut buf);
        StatisticsPage::default().emit(&mut out);
        assert_eq!(out.position(), MAX_LOG_PAGE);
    }
}
