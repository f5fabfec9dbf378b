//! BEGIN, COMMIT and ABORT.

use stomp::Config;

use crate::script::{OPEN, check_open, check_with};

#[test]
fn a_transaction_holds_back_and_commit_releases_in_order() {
    check_open(
        "> BEGIN transaction:t receipt:r0
         < RECEIPT receipt-id:r0
         > SEND destination:/queue/a transaction:t receipt:r1 | 1
         > ACK id:0.1 transaction:t
         > SEND destination:/queue/a | 2
         = publish /queue/a \"2\"
         > COMMIT transaction:t receipt:r2
         = commit receipt:r2
         = publish /queue/a \"1\" receipt:r1
         = ack Token(\"0.1\")",
    );
}

#[test]
fn abort_drops_what_was_held_back_and_gives_all_receipts() {
    check_open(
        "> BEGIN transaction:t
         > SEND destination:/queue/a transaction:t receipt:r1 | 1
         > ABORT transaction:t receipt:r2
         < RECEIPT receipt-id:r1
         < RECEIPT receipt-id:r2
         > COMMIT transaction:t
         < ERROR message:COMMIT names the transaction \"t\", which is not open
         = close",
    );
}

#[test]
fn transactions_are_bounded() {
    let config = Config { max_transactions: 1, max_transaction_frames: 1, ..Config::default() };
    check_with(
        config.clone(),
        &format!(
            "{OPEN}
             > BEGIN transaction:t
             > BEGIN transaction:u
             < ERROR message:more than 1 open transactions in one session
             = close"
        ),
    );
    check_with(
        config,
        &format!(
            "{OPEN}
             > BEGIN transaction:t
             > SEND destination:/queue/a transaction:t | 1
             > SEND destination:/queue/a transaction:t receipt:r | 2
             < ERROR message:more than 1 frames in one transaction, or 1048576 bytes in all that are open receipt-id:r
             = close"
        ),
    );
    check_open(
        "> BEGIN transaction:t
         > BEGIN transaction:t
         < ERROR message:a transaction with the id \"t\" is open already in this session
         = close",
    );
}

#[test]
fn headers_count_against_the_bytes_of_all_open_transactions() {
    check_with(
        Config { max_transaction_bytes: bytesize::ByteSize(2_000), ..Config::default() },
        &format!(
            "{OPEN}
             > BEGIN transaction:t
             > BEGIN transaction:u
             > SEND destination:/queue/a transaction:t h:{h}
             > SEND destination:/queue/a transaction:u h:{h}
             < ERROR message:more than 1024 frames in one transaction, or 2000 bytes in all that are open
             = close",
            h = "x".repeat(1_000)
        ),
    );
}
