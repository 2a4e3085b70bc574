#!/bin/sh
# Speaks the four texts in this folder with eight synthetic voices.
# Needs flite, espeak-ng and ffmpeg (Debian packages of these names).
# Usage: sh make_samples.sh        (writes <voice>/<text>.mp3 beside this file)
set -eu
cd "$(dirname "$0")"
spoken=$(mktemp --suffix .wav)
trap 'rm -f "$spoken"' EXIT

# encode VOICE TEXT: the spoken WAV as a 16 kHz mono MP3. Bit-exact flags keep dates
# and version strings out, so the same packages make the same bytes.
encode() {
    mkdir -p "$1"
    ffmpeg -nostdin -loglevel error -y -i "$spoken" -ac 1 -ar 16000 -b:a 32k \
        -map_metadata -1 -fflags +bitexact -flags:a +bitexact "$1/$2.mp3"
}

for file in *.txt; do
    text=${file%.txt}
    for voice in kal16 rms slt awb; do
        flite -voice "$voice" -f "$file" -o "$spoken"
        encode "flite-$voice" "$text"
    done
    # voice:words a minute:pitch
    for entry in en-gb+f2:165:62 en-us+m3:175:38 en-gb-scotland+f4:155:48 en-029+m7:160:25; do
        IFS=: read -r voice rate pitch <<END
$entry
END
        espeak-ng -v "$voice" -s "$rate" -p "$pitch" -f "$file" -w "$spoken"
        encode "espeak-$voice" "$text"
    done
done
