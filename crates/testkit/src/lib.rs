//! Real servers and faults for tests.
