//! Order of requests, task management, NOP, text, logout, asynchronous messages, time.

use scst_protocol_iscsi::connection::{
    AsyncMessage, LogoutResponse, REQUEST_TIMEOUT, RequestMemory, SMALL_REQUEST, TargetListing,
};
use scst_protocol_iscsi::error::{CloseReason, Garbage, Misbehavior, TimeoutKind};
use scst_protocol_iscsi::event::{Input, LogoutReason, RecvEvent, SendTargets};
use scst_protocol_iscsi::params::TargetParameters;
use scst_protocol_iscsi::pdu::*;
use scst_protocol_iscsi::session::MAX_IMMEDIATE_TASKS;
use scst_scsi::{Lun, TaskManagementFunction, TaskManagementResponse};

use crate::common::*;

fn tmf(pair: &Pair, itt: u32, function: TmfFunction, tag: u32, ref_cmd_sn: u32) -> TaskManagementRequest {
    TaskManagementRequest {
        immediate: true,
        function,
        data_length: 0,
        lun: LUN,
        itt,
        referenced_task_tag: tag,
        cmd_sn: pair.cmd_sn,
        exp_stat_sn: 0,
        ref_cmd_sn,
        exp_data_sn: 0,
    }
}

fn nop(pair: &Pair, itt: u32, ttt: u32) -> NopOut {
    NopOut { immediate: true, data_length: 0, lun: Lun::default(), itt, ttt, cmd_sn: pair.cmd_sn, exp_stat_sn: 0 }
}

fn text(pair: &Pair, itt: u32, ttt: u32, last: bool) -> TextRequest {
    TextRequest {
        immediate: true,
        last,
        continues: false,
        data_length: 0,
        lun: Lun::default(),
        itt,
        ttt,
        cmd_sn: pair.cmd_sn,
        exp_stat_sn: 0,
    }
}

fn tmf_code(pair: &mut Pair) -> TmfResponseCode {
    let pdus = pair.receive();
    assert_eq!((pdus.len(), pdus[0].opcode()), (1, opcode::TASK_MANAGEMENT_RESPONSE));
    TaskManagementPdu::parse(&pdus[0].header).response
}

#[test]
fn commands_that_come_early_are_held_until_the_gap_closes() {
    let mut pair = Pair::plain();
    let all: Vec<ScsiCommand> = (0..4).map(|itt| pair.command(itt, "r", 512)).collect();
    let third = command_of(&pair.send(all[2].emit(), &[]));
    let second = command_of(&pair.send(all[1].emit(), &[]));
    assert!(third.held && second.held);
    assert_eq!(pair.session.exp_cmd_sn(), 100);
    let events = pair.send(all[0].emit(), &[]);
    assert!(!command_of(&events).held);
    assert_eq!(
        events[1..],
        [RecvEvent::Deliver { task: second.task, user: 2 }, RecvEvent::Deliver { task: third.task, user: 1 }]
    );
    assert_eq!(pair.session.exp_cmd_sn(), 103);
    assert!(!command_of(&pair.send(all[3].emit(), &[])).held);
}

#[test]
fn duplicates_and_numbers_outside_the_window_are_ignored() {
    let mut pair = Pair::plain();
    let first = pair.command(1, "r", 512);
    pair.send(first.emit(), &[]);
    let again = ScsiCommand { itt: 2, ..first };
    assert_eq!(pair.send(again.emit(), &[]), []);
    let far = ScsiCommand { itt: 3, cmd_sn: 132, write: true, read: false, ..first };
    assert_eq!(pair.send(far.emit(), &pattern(512, 0)), []);
    let early = ScsiCommand { itt: 4, cmd_sn: 131, ..first };
    assert!(command_of(&pair.send(early.emit(), &[])).held);
    assert_eq!(pair.send(ScsiCommand { itt: 5, ..early }.emit(), &[]), []);
    assert!(pair.receive().is_empty());
}

#[test]
fn the_window_is_full_until_an_answer_leaves() {
    let parameters = TargetParameters { queued_commands: 2, ..TargetParameters::default() };
    let mut pair = Pair::new(parameters, &[]);
    let all: Vec<ScsiCommand> = (0..4).map(|itt| pair.command(itt, "", 0)).collect();
    let first = command_of(&pair.send(all[0].emit(), &[]));
    pair.send(all[1].emit(), &[]);
    assert_eq!(pair.send(all[2].emit(), &[]), []);
    pair.good(first.task, 0, 0);
    let response = ScsiResponse::parse(&pair.receive()[0].header);
    assert_eq!((response.exp_cmd_sn, response.max_cmd_sn), (102, 102));
    assert_eq!(pair.send(all[2].emit(), &[]).len(), 1);
    assert_eq!(pair.send(all[3].emit(), &[]), []);
}

#[test]
fn immediate_commands_do_not_count_but_are_limited() {
    let mut pair = Pair::plain();
    let template = pair.command(0, "", 0);
    for itt in 0..MAX_IMMEDIATE_TASKS as u32 {
        let pdu = ScsiCommand { immediate: true, itt, ..template };
        let command = command_of(&pair.send(pdu.emit(), &[]));
        assert!(command.immediate && !command.held);
    }
    assert_eq!(pair.session.exp_cmd_sn(), 100);
    let pdu = ScsiCommand { immediate: true, itt: 99, ..template };
    assert_eq!(pair.send(pdu.emit(), &[]), []);
    assert_eq!(Reject::parse(&pair.receive()[0].header).reason, RejectReason::TOO_MANY_IMMEDIATE_COMMANDS);
    assert_eq!(pair.session.max_cmd_sn(), 131);
}

#[test]
fn a_tag_in_use_is_rejected() {
    let mut pair = Pair::plain();
    let pdu = pair.command(1, "r", 512);
    pair.send(pdu.emit(), &[]);
    let pdu = pair.command(1, "r", 512);
    assert_eq!(pair.send(pdu.emit(), &[]), []);
    let reject = Reject::parse(&pair.receive()[0].header);
    assert_eq!((reject.reason, reject.exp_cmd_sn), (RejectReason::TASK_IN_PROGRESS, 102));
}

#[test]
fn abort_task_finds_its_task_or_says_why_not() {
    let mut pair = Pair::plain();
    let pdu = pair.command(7, "r", 512);
    let command = command_of(&pair.send(pdu.emit(), &[]));
    let request = tmf(&pair, 50, TmfFunction::ABORT_TASK, 7, 100);
    let events = pair.send(request.emit(), &[]);
    let [RecvEvent::TaskManagement(event)] = events[..] else { panic!("{events:?}") };
    assert_eq!(event.function, TaskManagementFunction::AbortTask);
    assert_eq!((event.referenced, event.referenced_user, event.lun), (Some(command.task), 1, LUN));
    assert!(pair.target.drop_task(&mut pair.session, command.task));
    pair.target.task_management_response(&mut pair.session, event.tag, TaskManagementResponse::Complete);
    let pdus = pair.receive();
    let response = TaskManagementPdu::parse(&pdus[0].header);
    assert_eq!((response.response, response.itt, response.stat_sn), (TmfResponseCode::COMPLETE, 50, 501));
    assert_eq!((response.exp_cmd_sn, response.max_cmd_sn), (101, 132));

    let pdu = pair.command(8, "r", 512);
    pair.send(pdu.emit(), &[]);
    let answers = [
        (TaskManagementRequest { lun: Lun::default(), ..tmf(&pair, 51, TmfFunction::ABORT_TASK, 8, 101) }, 255),
        (tmf(&pair, 52, TmfFunction::ABORT_TASK, 8, 100), 255),
        (tmf(&pair, 53, TmfFunction::ABORT_TASK, 9, 100), 1),
        (tmf(&pair, 54, TmfFunction::TASK_REASSIGN, 8, 101), 4),
        (tmf(&pair, 55, TmfFunction::QUERY_TASK, 8, 101), 5),
        (tmf(&pair, 56, TmfFunction(77), 8, 101), 5),
    ];
    for (request, code) in answers {
        assert_eq!(pair.send(request.emit(), &[]), []);
        assert_eq!(tmf_code(&mut pair), TmfResponseCode(code), "{request:?}");
    }
}

#[test]
fn abort_task_for_a_command_that_never_came_closes_its_gap() {
    let mut pair = Pair::plain();
    let _lost = pair.command(1, "r", 512);
    let pdu = pair.command(2, "r", 512);
    let held = command_of(&pair.send(pdu.emit(), &[]));
    assert!(held.held);
    let request = tmf(&pair, 50, TmfFunction::ABORT_TASK, 1, 100);
    assert_eq!(pair.send(request.emit(), &[]), [RecvEvent::Deliver { task: held.task, user: 1 }]);
    assert_eq!(tmf_code(&mut pair), TmfResponseCode::COMPLETE);
    assert_eq!((pair.session.exp_cmd_sn(), pair.session.max_cmd_sn()), (102, 132));
}

#[test]
fn resets_reach_the_driver_and_new_functions_need_their_level() {
    let mut pair = Pair::new(TargetParameters::default(), &[("iSCSIProtocolLevel", "2")]);
    for (code, function, cold) in [
        (TmfFunction::LOGICAL_UNIT_RESET, TaskManagementFunction::LogicalUnitReset, false),
        (TmfFunction::TARGET_WARM_RESET, TaskManagementFunction::TargetReset, false),
        (TmfFunction::TARGET_COLD_RESET, TaskManagementFunction::TargetReset, true),
        (TmfFunction::QUERY_TASK_SET, TaskManagementFunction::QueryTaskSet, false),
        (TmfFunction::I_T_NEXUS_RESET, TaskManagementFunction::ITNexusReset, false),
    ] {
        let events = pair.send(tmf(&pair, 50, code, RESERVED_TAG, 0).emit(), &[]);
        let [RecvEvent::TaskManagement(event)] = events[..] else { panic!("{events:?}") };
        assert_eq!((event.function, event.cold_reset, event.referenced), (function, cold, None));
        pair.target.task_management_response(&mut pair.session, event.tag, TaskManagementResponse::Complete);
        assert_eq!(tmf_code(&mut pair), TmfResponseCode::COMPLETE);
    }
}

#[test]
fn a_ping_is_echoed() {
    let mut pair = Pair::plain();
    let request = NopOut { immediate: false, lun: LUN, ..nop(&pair, 33, RESERVED_TAG) };
    assert_eq!(pair.send(request.emit(), b"hello"), []);
    let pdus = pair.receive();
    let answer = NopIn::parse(&pdus[0].header);
    assert_eq!((answer.itt, answer.ttt, answer.lun, answer.stat_sn), (33, RESERVED_TAG, LUN, 501));
    assert_eq!((answer.exp_cmd_sn, answer.max_cmd_sn), (101, 132));
    assert_eq!(pdus[0].data, b"hello");
    // Larger than the sink: it leaves in pieces, cut to what the initiator accepts.
    let big = pattern(100_000, 1);
    pair.send(nop(&pair, 34, RESERVED_TAG).emit(), &big);
    assert_eq!(pair.receive()[0].data, big[..65_536]);
}

#[test]
fn requests_that_come_early_wait_too() {
    let mut pair = Pair::plain();
    let first = pair.command(1, "r", 512);
    let late = NopOut { immediate: false, cmd_sn: 101, ..nop(&pair, 5, RESERVED_TAG) };
    assert_eq!(pair.send(late.emit(), b"early"), []);
    assert!(pair.receive().is_empty());
    pair.send(first.emit(), &[]);
    assert_eq!(pair.receive()[0].data, b"early");
    assert_eq!(pair.session.exp_cmd_sn(), 102);
}

#[test]
fn a_flood_of_pings_stops_the_receive_side_until_answers_leave() {
    let mut pair = Pair::plain();
    for itt in 0..200 {
        pair.send(nop(&pair, itt, RESERVED_TAG).emit(), &[]);
    }
    assert_eq!(pair.last_input, Some(Input::WaitForTransmit));
    let mut answers = 0;
    for _ in 0..4 {
        answers += pair.receive().len();
        pair.pump();
    }
    assert_eq!(answers, 200);
}

#[test]
fn what_error_recovery_level_0_does_not_have_is_rejected() {
    let mut pair = Pair::plain();
    let snack = SnackRequest {
        kind: SnackType::STATUS,
        data_length: 0,
        lun: Lun::default(),
        itt: RESERVED_TAG,
        ttt: RESERVED_TAG,
        exp_stat_sn: 0,
        beg_run: 1,
        run_length: 1,
    };
    assert_eq!(pair.send(snack.emit(), &[]), []);
    let pdus = pair.receive();
    assert_eq!(Reject::parse(&pdus[0].header).reason, RejectReason::SNACK_REJECT);
    assert_eq!(pdus[0].data, snack.emit().0);
    let mut unknown = BasicHeaderSegment::default();
    unknown.0[0] = 0x1c;
    pair.send(unknown, &pattern(10, 0));
    assert_eq!(Reject::parse(&pair.receive()[0].header).reason, RejectReason::COMMAND_NOT_SUPPORTED);
}

#[test]
fn garbage_and_misplaced_logins_close_the_connection() {
    let mut pair = Pair::plain();
    let mut login = BasicHeaderSegment::default();
    login.0[0] = 0x43;
    let reason = CloseReason::Misbehaved(Misbehavior::LoginInFullFeature);
    assert_eq!(pair.send(login, &[]), [RecvEvent::Close(reason)]);
    assert_eq!(pair.last_input, Some(Input::Closed));

    let mut pair = Pair::plain();
    let header = NopOut { data_length: 1_048_577, ..nop(&pair, 1, RESERVED_TAG) }.emit();
    let reason = CloseReason::Garbage(Garbage::DataSegmentTooLong);
    assert_eq!(pair.send_raw(&header.0), [RecvEvent::Close(reason)]);
}

fn discovery() -> Pair {
    let mut login = LoginPair::new(admission(TargetParameters::default()));
    login.one(1, Some(3), &[("InitiatorName", "iqn.a:i"), ("SessionType", "Discovery")]);
    let mut pair = Pair::plain();
    (pair.target, pair.session) = login.target.into_full_feature(0).unwrap();
    pair
}

#[test]
fn send_targets_lists_targets_over_several_responses() {
    let mut pair = discovery();
    let events = pair.send(text(&pair, 9, RESERVED_TAG, true).emit(), b"SendTargets=All\0");
    assert_eq!(events, [RecvEvent::SendTargets(SendTargets::All)]);
    let listings: Vec<TargetListing> = (0..200)
        .map(|i| TargetListing {
            name: format!("iqn.2024-01.example:disk{i}"),
            addresses: vec!["10.0.0.1:3260,1".into(), "[fd00::1]:3260,1".into()],
        })
        .collect();
    pair.target.send_targets_response(&pair.session, &listings);
    let mut all = Vec::new();
    loop {
        let pdus = pair.receive();
        let response = TextResponse::parse(&pdus[0].header);
        assert_eq!((pdus.len(), response.itt, response.last), (1, 9, !response.continues));
        all.extend_from_slice(&pdus[0].data);
        if response.last {
            assert_eq!(response.ttt, RESERVED_TAG);
            break;
        }
        assert_eq!(pdus[0].data.len(), 8192);
        assert_eq!(pair.send(text(&pair, 9, response.ttt, true).emit(), b""), []);
    }
    let list = String::from_utf8(all).unwrap();
    assert_eq!(list.matches("TargetName=").count(), 200);
    assert!(list.starts_with(
        "TargetName=iqn.2024-01.example:disk0\0TargetAddress=10.0.0.1:3260,1\0TargetAddress=[fd00::1]:3260,1\0"
    ));
    // A name, and a text over two requests.
    let part = TextRequest { continues: true, ..text(&pair, 10, RESERVED_TAG, false) };
    pair.send(part.emit(), b"SendTargets=IQN.a");
    let ttt = TextResponse::parse(&pair.receive()[0].header).ttt;
    let events = pair.send(text(&pair, 10, ttt, true).emit(), b":t\0");
    assert_eq!(events, [RecvEvent::SendTargets(SendTargets::Name("iqn.a:t".into()))]);
}

#[test]
fn discovery_is_for_discovery() {
    let mut pair = discovery();
    let pdu = pair.command(1, "r", 512);
    assert_eq!(pair.send(pdu.emit(), &[]), []);
    assert_eq!(Reject::parse(&pair.receive()[0].header).reason, RejectReason::PROTOCOL_ERROR);

    let mut pair = Pair::plain();
    pair.send(text(&pair, 1, RESERVED_TAG, true).emit(), b"SendTargets=All\0MaxBurstLength=512\0X-a.b=1\0");
    let answer = pair.receive().remove(0).text();
    let expected = [("SendTargets", "Reject"), ("MaxBurstLength", "Reject"), ("X-a.b", "NotUnderstood")];
    assert_eq!(answer, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    let events = pair.send(text(&pair, 1, RESERVED_TAG, true).emit(), b"SendTargets=\0");
    assert_eq!(events, [RecvEvent::SendTargets(SendTargets::This)]);
    let listing = |name: &str| TargetListing { name: name.into(), addresses: vec!["10.0.0.1:3260,1".into()] };
    let list = [listing("iqn.2024-01.example:target"), listing("iqn.2024-01.example:other")];
    pair.target.send_targets_response(&pair.session, &list);
    assert_eq!(pair.receive().remove(0).text().len(), 2);
}

#[test]
fn a_segment_length_can_be_declared_again() {
    let mut pair = Pair::plain();
    pair.send(text(&pair, 1, RESERVED_TAG, true).emit(), b"MaxRecvDataSegmentLength=512\0");
    assert_eq!(pair.receive()[0].data, b"");
    assert_eq!(pair.target.parameters().max_send_data_segment_length, 512);
}

#[test]
fn logout_answers_last_and_closes() {
    let mut pair = Pair::plain();
    let pdu = pair.command(1, "", 0);
    let command = command_of(&pair.send(pdu.emit(), &[]));
    pair.good(command.task, 0, 0);
    let request = |reason, cid| LogoutRequest {
        immediate: true,
        reason,
        data_length: 0,
        itt: 60,
        cid,
        cmd_sn: 101,
        exp_stat_sn: 0,
    };
    pair.send(request(LogoutReasonCode::REMOVE_FOR_RECOVERY, 0).emit(), &[]);
    pair.send(request(LogoutReasonCode::CLOSE_CONNECTION, 5).emit(), &[]);
    let codes: Vec<u8> = pair.receive()[1..].iter().map(|p| LogoutResponsePdu::parse(&p.header).response.0).collect();
    assert_eq!(codes, [2, 1]);
    let events = pair.send(request(LogoutReasonCode::CLOSE_SESSION, 0).emit(), &[]);
    assert_eq!(events, [RecvEvent::Logout { reason: LogoutReason::CloseSession }]);
    assert_eq!(pair.last_input, Some(Input::Closed));
    assert!(pair.receive().is_empty() && !pair.close);
    pair.target.logout_response(&pair.session, LogoutResponse::Closed);
    let response = LogoutResponsePdu::parse(&pair.receive()[0].header);
    assert_eq!((response.response, response.itt, response.time2wait), (LogoutResponseCode::CLOSED, 60, 2));
    assert!(pair.close && pair.target.is_closed());
    // An initiator that does not even take the answer is not waited for.
    assert_eq!(pair.target.poll_timeout(), None);
    pair.target.sending(SECOND, true);
    assert_eq!(pair.target.poll_timeout(), Some(91 * SECOND));
    pair.target.handle_timeout(&pair.session, 91 * SECOND);
    assert_eq!(pair.pump(), [RecvEvent::Close(CloseReason::Timeout(TimeoutKind::Response))]);
}

#[test]
fn a_held_command_that_is_dropped_leaves_no_hole_and_no_wider_window() {
    let mut pair = Pair::plain();
    let all: Vec<ScsiCommand> = (0..3).map(|itt| pair.command(itt, "r", 512)).collect();
    let second = command_of(&pair.send(all[1].emit(), &[]));
    assert!(pair.target.drop_task(&mut pair.session, second.task));
    assert!(!pair.target.drop_task(&mut pair.session, second.task));
    assert_eq!((pair.session.exp_cmd_sn(), pair.session.max_cmd_sn()), (100, 131));
    let events = pair.send(all[0].emit(), &[]);
    assert_eq!(events.len(), 1, "nothing to deliver");
    assert_eq!((pair.session.exp_cmd_sn(), pair.session.max_cmd_sn()), (102, 132));
    assert!(!command_of(&pair.send(all[2].emit(), &[])).held);
}

#[test]
fn silence_is_answered_by_a_ping_and_then_by_closing() {
    let mut pair = Pair::plain();
    assert_eq!(pair.target.poll_timeout(), Some(30 * SECOND));
    pair.target.handle_timeout(&pair.session, 30 * SECOND);
    let pdus = pair.receive();
    let ping = NopIn::parse(&pdus[0].header);
    assert_eq!((ping.itt, ping.stat_sn), (RESERVED_TAG, 501));
    assert_ne!(ping.ttt, RESERVED_TAG);
    pair.now = 31 * SECOND;
    assert_eq!(pair.send(nop(&pair, RESERVED_TAG, ping.ttt).emit(), &[]), []);
    assert_eq!(pair.target.poll_timeout(), Some(61 * SECOND));
    pair.target.handle_timeout(&pair.session, 61 * SECOND);
    assert_eq!(NopIn::parse(&pair.receive()[0].header).stat_sn, 501, "a ping does not advance StatSN");
    assert_eq!(pair.target.poll_timeout(), Some(91 * SECOND));
    pair.target.handle_timeout(&pair.session, 91 * SECOND);
    assert_eq!(pair.pump(), [RecvEvent::Close(CloseReason::Timeout(TimeoutKind::NopIn))]);
    assert_eq!(pair.target.poll_timeout(), None);
}

#[test]
fn an_initiator_that_owes_data_has_rsp_timeout_seconds() {
    let parameters = TargetParameters { nop_in_interval: 0, ..TargetParameters::default() };
    let mut pair = Pair::new(parameters, &[("InitialR2T", "No")]);
    assert_eq!(pair.target.poll_timeout(), None);
    pair.now = 5 * SECOND;
    let pdu = pair.command(1, "w", 4096);
    pair.send(pdu.emit(), &[]);
    let r2t = R2t::parse(&pair.receive()[0].header);
    assert_eq!(pair.target.poll_timeout(), Some(95 * SECOND));
    // A part comes in time: the clock starts again.
    pair.now = 50 * SECOND;
    pair.send(pair.data_out(1, r2t.ttt, 0, 0, false).emit(), &pattern(1024, 0));
    pair.target.handle_timeout(&pair.session, 95 * SECOND);
    assert_eq!(pair.target.poll_timeout(), Some(140 * SECOND));
    pair.target.handle_timeout(&pair.session, 140 * SECOND);
    assert_eq!(pair.pump(), [RecvEvent::Close(CloseReason::Timeout(TimeoutKind::Response))]);

    let mut pair = Pair::new(TargetParameters { nop_in_interval: 0, ..TargetParameters::default() }, &[]);
    pair.target.sending(SECOND, true);
    assert_eq!(pair.target.poll_timeout(), Some(91 * SECOND));
    pair.target.sending(2 * SECOND, false);
    assert_eq!(pair.target.poll_timeout(), None);
}

#[test]
fn asynchronous_messages_tell_and_ask() {
    let mut pair = Pair::plain();
    let sense = [0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x3f, 0x0e, 0, 0, 0, 0];
    assert!(pair.target.async_message(&pair.session, 0, AsyncMessage::ScsiEvent { lun: LUN, sense: &sense }));
    assert!(pair.target.async_message(&pair.session, 0, AsyncMessage::LogoutRequest { seconds: 10 }));
    let dropped = AsyncMessage::ConnectionDropped { time2wait: 2, time2retain: 0 };
    assert!(pair.target.async_message(&pair.session, 0, dropped));
    let pdus = pair.receive();
    let messages: Vec<_> = pdus.iter().map(|p| AsyncMessagePdu::parse(&p.header)).collect();
    assert_eq!(
        messages.iter().map(|m| (m.event.0, m.stat_sn, m.parameter3)).collect::<Vec<_>>(),
        [(0, 501, 0), (1, 502, 10), (2, 503, 0)]
    );
    assert_eq!((pdus[0].data[..2].to_vec(), &pdus[0].data[2..], messages[0].lun), (vec![0, 18], &sense[..], LUN));
    assert_eq!(pair.target.poll_timeout(), Some(10 * SECOND));
    pair.target.handle_timeout(&pair.session, 10 * SECOND);
    assert_eq!(pair.pump(), [RecvEvent::Close(CloseReason::Timeout(TimeoutKind::LogoutRequest))]);
}

const MIB: usize = 1 << 20;

/// A session without pings of the target's, its memory shared with others.
fn sharing(memory: &RequestMemory) -> Pair {
    let parameters = TargetParameters { nop_in_interval: 0, ..TargetParameters::default() };
    let mut pair = Pair::new(parameters, &[("MaxRecvDataSegmentLength", "65536")]);
    pair.target.share_request_memory(memory.clone());
    pair
}

/// All of a request but its last byte.
fn unfinished(pair: &mut Pair, header: BasicHeaderSegment, length: usize) {
    let bytes = frame(header, &[], &pattern(length, 7), false, false);
    assert_eq!(pair.send_raw(&bytes[..bytes.len() - 1]), []);
}

#[test]
fn pings_and_texts_share_a_budget_and_a_little_is_always_there() {
    let memory = RequestMemory::new(MIB as u64 + 5000);
    let mut hog = sharing(&memory);
    let header = nop(&hog, 1, RESERVED_TAG).emit();
    unfinished(&mut hog, header, MIB);
    assert_eq!(memory.used(), MIB as u64);
    // Others cannot have as much. What they send is read all the same, so that nobody waits.
    let mut others: Vec<Pair> = (0..3).map(|_| sharing(&memory)).collect();
    for other in &mut others {
        let header = nop(other, 1, RESERVED_TAG).emit();
        unfinished(other, header, MIB);
        assert_eq!(memory.used(), MIB as u64);
    }
    others[0].send_raw(&[0]);
    assert_eq!(others[0].receive()[0].data, pattern(MIB, 7)[..SMALL_REQUEST], "a shorter echo");

    let mut innocent = sharing(&memory);
    innocent.send(nop(&innocent, 1, RESERVED_TAG).emit(), b"hello");
    assert_eq!(innocent.receive()[0].data, b"hello");
    let request = TextRequest { immediate: false, ..text(&innocent, 2, RESERVED_TAG, true) };
    let long: Vec<u8> = (0..600).flat_map(|n| format!("X-key{n:03}=1\0").into_bytes()).collect();
    assert_eq!(innocent.send(request.emit(), &long), []);
    let pdus = innocent.receive();
    let reject = Reject::parse(&pdus[0].header);
    assert_eq!((reject.reason, reject.exp_cmd_sn), (RejectReason::LONG_OPERATION, 101), "its number counts");
    let request = TextRequest { cmd_sn: 101, ..request };
    innocent.send(request.emit(), b"X-key=1\0");
    assert_eq!(innocent.receive()[0].data, b"X-key=NotUnderstood\0");

    drop(hog);
    assert_eq!(memory.used(), 0);
    let big = pattern(100_000, 1);
    innocent.send(nop(&innocent, 3, RESERVED_TAG).emit(), &big);
    assert_eq!(memory.used(), 100_000, "as long as the echo has not left");
    assert_eq!(innocent.receive()[0].data, big[..65_536]);
    assert_eq!(memory.used(), 0);
    let request = TextRequest { cmd_sn: 102, ..request };
    innocent.send(request.emit(), &long);
    assert_eq!(innocent.receive()[0].data.len(), 600 * "X-key000=NotUnderstood\0".len());
    assert_eq!(memory.used(), 0);
}

#[test]
fn parts_of_a_text_count_together() {
    let memory = RequestMemory::new(10_000);
    let mut pair = sharing(&memory);
    let part = TextRequest { continues: true, ..text(&pair, 10, RESERVED_TAG, false) };
    let mut ttt = RESERVED_TAG;
    for (n, used) in [0, 6000, 9000].into_iter().enumerate() {
        pair.send(TextRequest { ttt, ..part }.emit(), &[b'a'; 3000]);
        ttt = TextResponse::parse(&pair.receive()[0].header).ttt;
        assert_eq!(memory.used(), used, "part {n}");
    }
    pair.send(TextRequest { ttt, ..part }.emit(), &[b'a'; 3000]);
    assert_eq!(Reject::parse(&pair.receive()[0].header).reason, RejectReason::LONG_OPERATION);
    assert!(memory.used() <= 9000);
    // A new negotiation ends the old one.
    pair.send(text(&pair, 11, RESERVED_TAG, true).emit(), b"X-key=1\0");
    assert_eq!((pair.receive()[0].opcode(), memory.used()), (opcode::TEXT_RESPONSE, 0));
}

#[test]
fn a_text_longer_than_any_is_rejected_and_kept_nowhere() {
    let memory = RequestMemory::new(4 << 20);
    let mut pair = sharing(&memory);
    let request = TextRequest { immediate: false, ..text(&pair, 2, RESERVED_TAG, true) };
    unfinished(&mut pair, request.emit(), 64 * 1024 + 1);
    assert_eq!(memory.used(), 0);
    pair.send_raw(&[0, 0, 0, 0][..1]);
    pair.send_raw(&[0; 3]);
    let reject = Reject::parse(&pair.receive()[0].header);
    assert_eq!((reject.reason, reject.exp_cmd_sn), (RejectReason::PROTOCOL_ERROR, 101));
}

#[test]
fn the_data_of_a_ping_or_a_text_have_thirty_seconds_however_they_trickle() {
    let memory = RequestMemory::new(4 << 20);
    for ping in [true, false] {
        let mut pair = sharing(&memory);
        let header = if ping { nop(&pair, 1, RESERVED_TAG).emit() } else { text(&pair, 1, RESERVED_TAG, true).emit() };
        let bytes = frame(header, &[], &pattern(50_000, 0), false, false);
        pair.now = SECOND;
        assert_eq!(pair.send_raw(&bytes[..20_000]), []);
        assert_eq!(pair.target.poll_timeout(), Some(SECOND + REQUEST_TIMEOUT));
        pair.now = 20 * SECOND;
        assert_eq!(pair.send_raw(&bytes[20_000..40_000]), []);
        assert_eq!(pair.target.poll_timeout(), Some(SECOND + REQUEST_TIMEOUT));
        pair.target.handle_timeout(&pair.session, SECOND + REQUEST_TIMEOUT - 1);
        assert_eq!((pair.pump(), memory.used()), (vec![], 50_000));
        pair.target.handle_timeout(&pair.session, SECOND + REQUEST_TIMEOUT);
        assert_eq!(pair.pump(), [RecvEvent::Close(CloseReason::Timeout(TimeoutKind::Request))]);
        assert_eq!(memory.used(), 0);
    }
    // One that is whole has no deadline.
    let mut pair = sharing(&memory);
    pair.send(nop(&pair, 1, RESERVED_TAG).emit(), &pattern(50_000, 0));
    assert_eq!(pair.target.poll_timeout(), None);
}

#[test]
fn an_unfinished_text_is_given_up_and_the_session_goes_on() {
    let memory = RequestMemory::new(4 << 20);
    let mut pair = sharing(&memory);
    let part = TextRequest { continues: true, ..text(&pair, 10, RESERVED_TAG, false) };
    pair.send(part.emit(), &[b'a'; 6000]);
    let ttt = TextResponse::parse(&pair.receive()[0].header).ttt;
    assert_eq!((memory.used(), pair.target.poll_timeout()), (6000, Some(REQUEST_TIMEOUT)));
    pair.now = REQUEST_TIMEOUT;
    pair.target.handle_timeout(&pair.session, REQUEST_TIMEOUT);
    assert_eq!((pair.pump(), memory.used(), pair.target.poll_timeout()), (vec![], 0, None));
    pair.send(text(&pair, 10, ttt, true).emit(), b"=1\0");
    assert_eq!(Reject::parse(&pair.receive()[0].header).reason, RejectReason::PROTOCOL_ERROR);
    pair.send(text(&pair, 11, RESERVED_TAG, true).emit(), b"X-key=1\0");
    assert_eq!(pair.receive()[0].data, b"X-key=NotUnderstood\0");
}
