//! What is where.
