//! Who is let in, and what they may do, without a server around it.
