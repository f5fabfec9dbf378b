
-- How much is in an inbox.
-- Returns how many entries are scheduled, pending, delivered and failed, what they cost, and when the oldest
-- was appended, or 0.
return count()
