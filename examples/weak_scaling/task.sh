# One task as a command: bash task.sh NUMBER SECONDS [WORKER [KIND [PLACE]]]
export LC_ALL=C
note() { [ -z "$place" ] || echo "$1 $number $2 $$ 1" >> "$place/journal"; }
number=$1 place=$5
began=$EPOCHREALTIME
note began "$began"
case $4 in
compute) python "${0%/*}/workload.py" "$2" "$place/$1.data" || exit ;;
*) sleep "$2" ;;
esac
ended=$EPOCHREALTIME
if [ "$4" = fail ] && mkdir "$place/$1.begun" 2> /dev/null; then
    note failed "$ended"
    exit 1
fi
note ended "$ended"
echo "$1 $began $ended $3"
