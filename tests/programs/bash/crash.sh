set -u
echo "$crash_on_purpose"
