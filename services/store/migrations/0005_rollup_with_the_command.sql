-- The status of an activity is recorded with the command that changes it. The policy that followed the log for it, whose
-- remaining events the upgrade has recorded by now, must not come back when one of its processes still runs.
DELETE FROM followers WHERE name = 'rollup-policy';
ALTER TABLE followers ADD CONSTRAINT followers_without_rollup_policy CHECK (name <> 'rollup-policy');
DROP TABLE rollup_activities;
