//! Where the T2 dialect and Amazon's differ, as one table. Nothing else asks which dialect is on.
