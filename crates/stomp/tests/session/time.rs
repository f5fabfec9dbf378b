//! Deadlines and heart-beats.

use crate::script::{check, check_open};

#[test]
fn deciding_on_a_connect_takes_no_longer_than_connecting() {
    check(
        "> CONNECT accept-version:1.2
         = connect login:None
         + 9999
         + 1
         < ERROR message:no CONNECT frame within 10s
         = close",
    );
}

#[test]
fn silence_before_connect_ends_in_time() {
    check(
        "> raw CONNECT\\n
         + 9999
         + 1
         < ERROR message:no CONNECT frame within 10s
         = close",
    );
}

#[test]
fn half_a_frame_is_ended_in_time_or_ends_the_session() {
    check_open(
        "> raw SEND\\ndestination:/topic/a\\n
         + 59999
         > raw \\nx\\0
         = publish /topic/a \"x\"
         + 3600000
         > raw SEND\\n
         + 59999
         + 1
         < ERROR message:a frame was begun and not ended within 60s
         = close",
    );
}

#[test]
fn a_silent_client_is_probed_and_then_closed() {
    check(
        "> CONNECT accept-version:1.2 heart-beat:10000,0
         = connect login:None
         ! accept ann
         < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
         + 10999
         + 1
         = probe
         + 9999
         + 1
         < ERROR message:heard nothing for 21s, longer than the heart-beats agreed on
         = close",
    );
}

#[test]
fn a_probe_that_is_answered_keeps_the_session() {
    check(
        "> CONNECT accept-version:1.2 heart-beat:10000,0
         = connect login:None
         ! accept ann
         < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
         + 11000
         = probe
         + 5000
         ! alive now
         + 10999
         + 1
         = probe
         > raw \\n
         + 10999",
    );
}

#[test]
fn silence_does_not_count_while_the_client_is_not_read() {
    check(
        "> CONNECT accept-version:1.2 heart-beat:10000,0
         = connect login:None
         ! accept ann
         < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
         ! pause on
         + 60000
         ! pause off
         + 10999
         + 1
         = probe",
    );
}

#[test]
fn the_server_beats_as_agreed() {
    check(
        "> CONNECT accept-version:1.2 heart-beat:0,20000
         = connect login:None
         ! accept ann
         < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
         + 18999
         + 1
         < heart-beat
         + 18999
         + 1
         < heart-beat",
    );
}
