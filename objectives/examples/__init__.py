"""A study of every task on real data: a spec each, and the rows it reads, made from what others have published."""
