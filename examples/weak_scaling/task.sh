# One task as a command: bash task.sh NUMBER SECONDS [WORKER]
export LC_ALL=C
began=$EPOCHREALTIME
sleep "$2"
echo "$1 $began $EPOCHREALTIME $3"
